package main

import (
	"context"
	"errors"
	"log"
	"os"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	ossDriver   = "ossplugin.csi.alibabacloud.com"
	fluidDriver = "fuse.csi.fluid.io"
	version     = "0.1.0-emulator"
)

// keyNames are the names by which a Secret has the AccessKey.
type keyNames struct {
	id, secret string
}

// secretKeys are those of each driver: the OSS plugin's own, and JindoFS's options.
var secretKeys = map[string]keyNames{
	ossDriver:   {id: "akId", secret: "akSecret"},
	fluidDriver: {id: "fs.oss.accessKeyId", secret: "fs.oss.accessKeySecret"},
}

type identity struct {
	csi.UnimplementedIdentityServer
	driver string
}

func (i identity) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: i.driver, VendorVersion: version}, nil
}

func (identity) GetPluginCapabilities(
	context.Context, *csi.GetPluginCapabilitiesRequest,
) (*csi.GetPluginCapabilitiesResponse, error) {
	return &csi.GetPluginCapabilitiesResponse{}, nil
}

func (identity) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{}, nil
}

type node struct {
	csi.UnimplementedNodeServer
	name   string
	region string
	keys   keyNames
	busy   sync.Map // volumes with an operation under way
}

func (n *node) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: n.name}, nil
}

func (n *node) NodeGetCapabilities(
	context.Context, *csi.NodeGetCapabilitiesRequest,
) (*csi.NodeGetCapabilitiesResponse, error) {
	return &csi.NodeGetCapabilitiesResponse{}, nil
}

// NodePublishVolume mounts a folder of a bucket. A mount that lives is left alone; one whose process has died is
// replaced.
func (n *node) NodePublishVolume(
	ctx context.Context, request *csi.NodePublishVolumeRequest,
) (*csi.NodePublishVolumeResponse, error) {
	target, capability := request.GetTargetPath(), request.GetVolumeCapability()
	if err := required(request.GetVolumeId(), target); err != nil {
		return nil, err
	}
	if capability.GetMount() == nil {
		return nil, status.Error(codes.InvalidArgument, "a volume capability of the kind mount is required")
	}
	release, err := n.acquire(request.GetVolumeId())
	if err != nil {
		return nil, err
	}
	defer release()
	parsed, err := parseVolume(request.GetVolumeContext(), request.GetSecrets(), n.keys, n.region)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if !isReadOnly(capability, request.GetReadonly()) {
		return nil, status.Error(codes.InvalidArgument,
			"this emulator mounts read-only: the access mode has to be ReadOnlyMany")
	}
	found, err := stateOf(target)
	if err != nil {
		return nil, status.Errorf(codes.Internal, "cannot look at the target %q: %v", target, err)
	}
	if found == alive {
		log.Printf("%s: already mounted at %s", request.GetVolumeId(), target)
		return &csi.NodePublishVolumeResponse{}, nil
	}
	if err := unmount(target, found); err != nil {
		return nil, status.Errorf(codes.Internal, "failed to unmount the dead mount at %q: %v", target, err)
	}
	parsed.Options = append(parsed.Options, capability.GetMount().GetMountFlags()...)
	if err := checkOptions(parsed.Options); err != nil {
		return nil, status.Errorf(codes.Internal, "ossfs exited: exit status 1, with stderr: %v", err)
	}
	if err := os.MkdirAll(target, 0o750); err != nil {
		return nil, status.Errorf(codes.Internal, "cannot make the target: %v", err)
	}
	if err := startMount(ctx, parsed, target); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	log.Printf("%s: mounted %s:%s at %s", request.GetVolumeId(), parsed.Bucket, parsed.Path, target)
	return &csi.NodePublishVolumeResponse{}, nil
}

// NodeUnpublishVolume unmounts, and removes the folder. What is gone already is fine.
func (n *node) NodeUnpublishVolume(
	_ context.Context, request *csi.NodeUnpublishVolumeRequest,
) (*csi.NodeUnpublishVolumeResponse, error) {
	target := request.GetTargetPath()
	if err := required(request.GetVolumeId(), target); err != nil {
		return nil, err
	}
	release, err := n.acquire(request.GetVolumeId())
	if err != nil {
		return nil, err
	}
	defer release()
	found, err := stateOf(target)
	if err == nil {
		err = unmount(target, found)
	}
	if err != nil {
		return nil, status.Errorf(codes.Internal, "failed to unmount target %q: %v", target, err)
	}
	if err := os.Remove(target); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, status.Errorf(codes.Internal, "failed to remove target %q: %v", target, err)
	}
	log.Printf("%s: unmounted %s", request.GetVolumeId(), target)
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

func required(volumeID, target string) error {
	if volumeID == "" {
		return status.Error(codes.InvalidArgument, "the volume's id is required")
	}
	if target == "" {
		return status.Error(codes.InvalidArgument, "the target path is required")
	}
	return nil
}

func (n *node) acquire(volumeID string) (release func(), err error) {
	if _, taken := n.busy.LoadOrStore(volumeID, true); taken {
		return nil, status.Errorf(codes.Aborted, "There is already an operation for %s", volumeID)
	}
	return func() { n.busy.Delete(volumeID) }, nil
}
