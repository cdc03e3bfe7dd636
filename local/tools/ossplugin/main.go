// ossplugin is an emulator of the node part of Alibaba Cloud's OSS volume plugin: the same driver name and the same
// attributes, served by FUSE from an OSS server of this machine. docs/storage-and-network.md says what it shows and what not.
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
	flag.Parse()
	if *name == "" || flag.NArg() > 0 {
		return errors.New("give --node, and nothing else but options")
	}
	endpoint := filepath.Join(*kubelet, "plugins", driverName, "csi.sock")
	services := grpc.NewServer()
	csi.RegisterIdentityServer(services, identity{})
	csi.RegisterNodeServer(services, &node{name: *name, region: *region})
	registered := grpc.NewServer()
	registration.RegisterRegistrationServer(registered, registrar{endpoint: endpoint})

	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	ended := make(chan error, 2)
	// The kubelet calls as soon as it sees the second socket.
	for _, served := range []struct {
		server *grpc.Server
		socket string
	}{{services, endpoint}, {registered, filepath.Join(*kubelet, "plugins_registry", driverName+"-reg.sock")}} {
		listener, err := listen(served.socket)
		if err != nil {
			return err
		}
		go func() { ended <- served.server.Serve(listener) }()
	}
	log.Printf("%s %s of the node %s at %s", driverName, version, *name, endpoint)
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
	endpoint string
}

func (r registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type: registration.CSIPlugin, Name: driverName, Endpoint: r.endpoint, SupportedVersions: []string{"1.0.0"},
	}, nil
}

func (r registrar) NotifyRegistrationStatus(
	_ context.Context, answer *registration.RegistrationStatus,
) (*registration.RegistrationStatusResponse, error) {
	if answer.PluginRegistered {
		log.Printf("the kubelet has registered %s", driverName)
	} else {
		log.Printf("the kubelet has refused %s: %s", driverName, answer.Error)
	}
	return &registration.RegistrationStatusResponse{}, nil
}
