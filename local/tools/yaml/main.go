// Command pulumi-language-yaml is Pulumi's language host for YAML, of the newest version that the Go module proxy has.
// That one lacks a call of newer CLIs, which adds a package to a program; for YAML, there is nothing to do in it
// (https://github.com/pulumi/pulumi-yaml/blob/main/pkg/server/server.go).
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/pulumi/pulumi-yaml/pkg/server"
	"github.com/pulumi/pulumi/sdk/v3/go/common/util/cmdutil"
	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
)

type host struct {
	pulumirpc.LanguageRuntimeServer
}

func (host) Link(context.Context, *pulumirpc.LinkRequest) (*pulumirpc.LinkResponse, error) {
	return &pulumirpc.LinkResponse{}, nil
}

func main() {
	tracing := flag.String("tracing", "", "endpoint for traces")
	flag.String("root", "", "accepted and ignored")
	flag.Parse()
	engine := flag.Arg(0)

	ctx, cancel := context.WithCancel(context.Background())
	stop := make(chan bool)
	go func() {
		<-ctx.Done()
		close(stop)
	}()
	// The host ends with the engine.
	if err := rpcutil.Healthcheck(ctx, engine, 5*time.Minute, cancel); err != nil {
		cmdutil.Exit(err)
	}
	handle, err := rpcutil.ServeWithOptions(rpcutil.ServeOptions{
		Cancel: stop,
		Init: func(served *grpc.Server) error {
			yaml := server.NewLanguageHost(engine, *tracing, false)
			pulumirpc.RegisterLanguageRuntimeServer(served, host{yaml})
			return nil
		},
	})
	if err != nil {
		cmdutil.Exit(err)
	}
	fmt.Fprintln(os.Stdout, handle.Port)
	if err := <-handle.Done; err != nil {
		cmdutil.Exit(err)
	}
}
