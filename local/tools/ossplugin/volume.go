package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
)

// Kinds of errors, with the texts of the plugin
// (https://github.com/kubernetes-sigs/alibaba-cloud-csi-driver/blob/master/pkg/oss/errors.go).
var (
	errParameters = errors.New("OSS parameters error")
	errAuth       = errors.New("OSS authorization error")
	errPath       = errors.New("OSS path error")
	errURL        = errors.New("OSS url error")
)

// volume is what one mount needs. It goes to the process that serves the mount on its standard input, never as
// arguments: it has a secret.
type volume struct {
	Bucket    string
	URL       string
	Path      string // in the bucket; begins with /
	Region    string
	KeyID     string
	KeySecret string
	Options   []string
}

// parseVolume reads what the PersistentVolume and its Secret say. Names of attributes are known in any case.
func parseVolume(attributes, secrets map[string]string, keys keyNames, region string) (*volume, error) {
	found := &volume{Path: "/", Region: region}
	authType, fuseType, otherOpts := "", "ossfs", ""
	for name, value := range attributes {
		if value = strings.TrimSpace(value); value == "" {
			continue
		}
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "bucket":
			found.Bucket = value
		case "url":
			found.URL = value
		case "path":
			found.Path = value
		case "region":
			found.Region = value
		case "otheropts":
			otherOpts = value
		case "authtype":
			authType = strings.ToLower(value)
		case "fusetype":
			fuseType = strings.ToLower(value)
		}
	}
	if fuseType != "ossfs" {
		return nil, fmt.Errorf("%w: Unsupported fuseType %s", errParameters, fuseType)
	}
	if authType != "" {
		return nil, fmt.Errorf("%w: ossfs: authType %s needs RAM's STS, which this emulator does not have", errAuth, authType)
	}
	found.KeyID, found.KeySecret = strings.TrimSpace(secrets[keys.id]), strings.TrimSpace(secrets[keys.secret])
	if found.KeyID == "" || found.KeySecret == "" {
		return nil, fmt.Errorf("%w: ossfs: missing access key in node publish secret", errAuth)
	}
	if found.URL == "" || found.Bucket == "" {
		return nil, fmt.Errorf("%w: Url/Bucket empty", errParameters)
	}
	if !strings.Contains(found.URL, "://") {
		found.URL = "https://" + found.URL
	}
	_, host, _ := strings.Cut(found.URL, "://")
	if strings.HasPrefix(host, found.Bucket+".") {
		return nil, fmt.Errorf("%w: url is invalid, %s is a bucket domain name, please use endpoint instead", errURL, found.URL)
	}
	if !strings.HasPrefix(found.Path, "/") {
		return nil, fmt.Errorf("%w: start with %s, should start with /", errPath, found.Path)
	}
	options, err := parseOtherOpts(otherOpts)
	found.Options = options
	return found, err
}

// isReadOnly tells whether the request lets the plugin mount read-only.
func isReadOnly(capability *csi.VolumeCapability, readonly bool) bool {
	mode := capability.GetAccessMode().GetMode()
	return readonly || mode == csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY ||
		mode == csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY
}

// prefix is the folder in the bucket, as keys begin with it: "" or "models/DeepSeek-R1/".
func (v *volume) prefix() string {
	folder := strings.Trim(v.Path, "/")
	if folder == "" {
		return ""
	}
	return folder + "/"
}

// masks are the permissions of files and folders, and who owns them.
func (v *volume) owner() (uid, gid, mask uint32, err error) {
	for _, field := range []struct {
		name   string
		base   int
		target *uint32
	}{{"uid", 10, &uid}, {"gid", 10, &gid}, {"umask", 8, &mask}} {
		text := valueOf(v.Options, field.name, "0")
		number, failed := strconv.ParseUint(text, field.base, 32)
		if failed != nil {
			return 0, 0, 0, fmt.Errorf("ossfs: invalid value %q of the option %s", text, field.name)
		}
		*field.target = uint32(number)
	}
	return uid, gid, mask, nil
}
