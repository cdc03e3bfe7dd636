// ossplugin is an emulator of the node part of Alibaba Cloud's OSS volume plugin: the same driver name and the same
// attributes, served by FUSE from an OSS server of this machine. docs/storage-and-network.md says what it shows and what not.
// By Fluid's driver name it mounts what a claim of Fluid shows, without the cache.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "mount" {
		if err := serveMount(os.Args[2]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	if err := run(); err != nil {
		log.Fatalf("error: %v", err)
	}
}

func run() error {
	kubelet := flag.String("kubelet-dir", "/var/lib/kubelet", "the kubelet's folder, in which the sockets are")
	name := flag.String("node", "", "name of the node")
	region := flag.String("region", "cn-hangzhou", "region of OSS, for signatures of version 4")
	driver := flag.String("driver", ossDriver, "name of the driver: "+ossDriver+" or "+fluidDriver)
	flag.Parse()
	if *name == "" || flag.NArg() > 0 {
		return errors.New("give --node, and nothing else but options")
	}
	keys, known := secretKeys[*driver]
	if !known {
		return fmt.Errorf("there is no driver %q here", *driver)
	}
	endpoint := filepath.Join(*kubelet, "plugins", *driver, "csi.sock")
	services := grpc.NewServer()
	csi.RegisterIdentityServer(services, identity{driver: *driver})
	csi.RegisterNodeServer(services, &node{name: *name, region: *region, keys: keys})
	registered := grpc.NewServer()
	registration.RegisterRegistrationServer(registered, registrar{driver: *driver, endpoint: endpoint})

	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	ended := make(chan error, 2)
	// The kubelet calls as soon as it sees the second socket.
	for _, served := range []struct {
		server *grpc.Server
		socket string
	}{{services, endpoint}, {registered, filepath.Join(*kubelet, "plugins_registry", *driver+"-reg.sock")}} {
		listener, err := listen(served.socket)
		if err != nil {
			return err
		}
		go func() { ended <- served.server.Serve(listener) }()
	}
	log.Printf("%s %s of the node %s at %s", *driver, version, *name, endpoint)
	select {
	case err := <-ended:
		return err
	case <-stop.Done():
		registered.Stop()
		services.GracefulStop()
		return nil
	}
}

// listen replaces the socket that a killed driver has left.
func listen(socket string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(socket), 0o750); err != nil {
		return nil, err
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return net.Listen("unix", socket)
}

// registrar answers the kubelet's plugin watcher.
type registrar struct {
	registration.UnimplementedRegistrationServer
	driver   string
	endpoint string
}

func (r registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type: registration.CSIPlugin, Name: r.driver, Endpoint: r.endpoint, SupportedVersions: []string{"1.0.0"},
	}, nil
}

func (r registrar) NotifyRegistrationStatus(
	_ context.Context, answer *registration.RegistrationStatus,
) (*registration.RegistrationStatusResponse, error) {
	if answer.PluginRegistered {
		log.Printf("the kubelet has registered %s", r.driver)
	} else {
		log.Printf("the kubelet has refused %s: %s", r.driver, answer.Error)
	}
	return &registration.RegistrationStatusResponse{}, nil
}
