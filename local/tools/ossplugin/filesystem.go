package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss"
	"github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss/credentials"
	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

const (
	// Attributes are believed for so long, as by ossfs.
	statCacheSeconds = 900
	readBytes        = 1 << 20
	connectSeconds   = 5
)

// bucket is the mounted folder of a bucket.
type bucket struct {
	*volume
	client        *oss.Client
	uid, gid, set uint32
	started       time.Time
}

func newBucket(v *volume) (*bucket, error) {
	uid, gid, mask, err := v.owner()
	if err != nil {
		return nil, err
	}
	endpoint, err := url.Parse(v.URL)
	if err != nil || endpoint.Host == "" {
		return nil, fmt.Errorf("ossfs: option url has invalid format, missing http / https protocol")
	}
	isAddress := net.ParseIP(endpoint.Hostname()) != nil || endpoint.Hostname() == "localhost"
	configuration := oss.LoadDefaultConfig().
		WithCredentialsProvider(credentials.NewStaticCredentialsProvider(v.KeyID, v.KeySecret)).
		WithRegion(v.Region).
		WithEndpoint(v.URL).
		WithConnectTimeout(connectSeconds * time.Second).
		WithUsePathStyle(isAddress || has(v.Options, "use_path_request_style"))
	return &bucket{
		volume: v, client: oss.NewClient(configuration), uid: uid, gid: gid, set: 0o777 &^ mask, started: time.Now(),
	}, nil
}

// check asks for the folder once, as ossfs does before it mounts. A folder that does not exist is no error, and the
// texts are those of ossfs (s3fs_check_service).
func (b *bucket) check(ctx context.Context) error {
	_, err := b.client.ListObjectsV2(ctx, &oss.ListObjectsV2Request{
		Bucket: oss.Ptr(b.Bucket), Prefix: oss.Ptr(b.prefix()), MaxKeys: 1,
	})
	var refused *oss.ServiceError
	if err == nil || (errors.As(err, &refused) && refused.StatusCode == http.StatusNotFound && refused.Code != "NoSuchBucket") {
		return nil
	}
	const place = "ossfs: Failed to check bucket and directory for mount point : "
	switch {
	case refused == nil:
		return fmt.Errorf(place+"Unable to connect(host=%s, message=)", b.URL)
	case refused.StatusCode == http.StatusBadRequest:
		return fmt.Errorf(place+"Bad Request(host=%s, message=%s)", b.URL, refused.Message)
	case refused.StatusCode == http.StatusForbidden:
		return fmt.Errorf(place+"Invalid Credentials(host=%s, message=%s)", b.URL, refused.Message)
	case refused.StatusCode == http.StatusNotFound:
		return fmt.Errorf("ossfs: Failed to check bucket : Bucket not found(host=%s, message=%s)", b.URL, refused.Message)
	default:
		return fmt.Errorf(place+"Unable to connect(host=%s, message=%s)", b.URL, refused.Message)
	}
}

// mount serves the folder at target, and returns when it can be read.
func (b *bucket) mount(target string) (*fuse.Server, error) {
	valid := time.Duration(b.seconds("stat_cache_expire", statCacheSeconds)) * time.Second
	flags := uintptr(syscall.MS_RDONLY | syscall.MS_NOSUID | syscall.MS_NODEV)
	return fs.Mount(target, &directory{bucket: b, key: b.prefix()}, &fs.Options{
		EntryTimeout: &valid,
		AttrTimeout:  &valid,
		MountOptions: fuse.MountOptions{
			AllowOther:        has(b.Options, "allow_other"),
			FsName:            "ossfs",
			Name:              "ossfs",
			DirectMountStrict: true,
			DirectMountFlags:  flags,
			MaxReadAhead:      readBytes,
			MaxWrite:          readBytes,
		},
	})
}

func (b *bucket) seconds(option string, fallback int) int {
	if number, err := strconv.Atoi(valueOf(b.Options, option, "")); err == nil && number >= 0 {
		return number
	}
	return fallback
}

func (b *bucket) list(ctx context.Context, prefix, token string, most int32) (*oss.ListObjectsV2Result, error) {
	request := &oss.ListObjectsV2Request{
		Bucket: oss.Ptr(b.Bucket), Prefix: oss.Ptr(prefix), Delimiter: oss.Ptr("/"), MaxKeys: most,
	}
	if token != "" {
		request.ContinuationToken = oss.Ptr(token)
	}
	return b.client.ListObjectsV2(ctx, request)
}

func (b *bucket) describe(attributes *fuse.Attr, mode uint32, size int64, modified *time.Time) {
	if modified == nil {
		modified = &b.started
	}
	attributes.Mode = mode | b.set
	attributes.Size = uint64(size)
	attributes.Blocks = (attributes.Size + 511) / 512
	attributes.Nlink = 1
	attributes.Owner = fuse.Owner{Uid: b.uid, Gid: b.gid}
	attributes.SetTimes(modified, modified, modified)
}

// errno is what a program sees of an answer of OSS.
func errno(err error) syscall.Errno {
	var refused *oss.ServiceError
	switch {
	case err == nil:
		return fs.OK
	case !errors.As(err, &refused):
		return syscall.EIO
	case refused.StatusCode == http.StatusNotFound:
		return syscall.ENOENT
	case refused.StatusCode == http.StatusForbidden:
		return syscall.EPERM
	default:
		return syscall.EIO
	}
}

type directory struct {
	fs.Inode
	*bucket
	key string // ends with /, or is empty
}

type file struct {
	fs.Inode
	*bucket
	key      string
	size     int64
	modified *time.Time
}

var (
	_ fs.NodeGetattrer = (*directory)(nil)
	_ fs.NodeLookuper  = (*directory)(nil)
	_ fs.NodeReaddirer = (*directory)(nil)
	_ fs.NodeStatfser  = (*directory)(nil)
	_ fs.NodeGetattrer = (*file)(nil)
	_ fs.NodeOpener    = (*file)(nil)
	_ fs.NodeReader    = (*file)(nil)
)

func (d *directory) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	d.describe(&out.Attr, syscall.S_IFDIR, 0, nil)
	return fs.OK
}

// Statfs is never answered from a cache, so it tells whether this process lives.
func (d *directory) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	*out = fuse.StatfsOut{Bsize: 4096, Frsize: 4096, NameLen: 255, Blocks: 1 << 40, Bfree: 1 << 40, Bavail: 1 << 40}
	return fs.OK
}

func (d *directory) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	key := d.key + name
	head, err := d.client.HeadObject(ctx, &oss.HeadObjectRequest{Bucket: oss.Ptr(d.Bucket), Key: oss.Ptr(key)})
	if err == nil {
		found := &file{bucket: d.bucket, key: key, size: head.ContentLength, modified: head.LastModified}
		d.describe(&out.Attr, syscall.S_IFREG, found.size, found.modified)
		return d.NewInode(ctx, found, fs.StableAttr{Mode: syscall.S_IFREG}), fs.OK
	}
	if failed := errno(err); failed != syscall.ENOENT {
		return nil, failed
	}
	listed, err := d.list(ctx, key+"/", "", 1)
	if err != nil {
		return nil, errno(err)
	}
	if len(listed.Contents)+len(listed.CommonPrefixes) == 0 {
		return nil, syscall.ENOENT
	}
	d.describe(&out.Attr, syscall.S_IFDIR, 0, nil)
	return d.NewInode(ctx, &directory{bucket: d.bucket, key: key + "/"}, fs.StableAttr{Mode: syscall.S_IFDIR}), fs.OK
}

func (d *directory) Readdir(ctx context.Context) (fs.DirStream, syscall.Errno) {
	var entries []fuse.DirEntry
	token := ""
	for {
		page, err := d.list(ctx, d.key, token, 1000)
		if err != nil {
			return nil, errno(err)
		}
		for _, object := range page.Contents {
			if key := oss.ToString(object.Key); key != d.key {
				entries = append(entries, fuse.DirEntry{Name: path.Base(key), Mode: syscall.S_IFREG})
			}
		}
		for _, folder := range page.CommonPrefixes {
			name := path.Base(strings.TrimSuffix(oss.ToString(folder.Prefix), "/"))
			entries = append(entries, fuse.DirEntry{Name: name, Mode: syscall.S_IFDIR})
		}
		if token = oss.ToString(page.NextContinuationToken); token == "" {
			return fs.NewListDirStream(entries), fs.OK
		}
	}
}

func (f *file) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	f.describe(&out.Attr, syscall.S_IFREG, f.size, f.modified)
	return fs.OK
}

func (f *file) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_KEEP_CACHE, fs.OK
}

func (f *file) Read(ctx context.Context, _ fs.FileHandle, into []byte, offset int64) (fuse.ReadResult, syscall.Errno) {
	end := min(offset+int64(len(into)), f.size)
	if offset >= end {
		return fuse.ReadResultData(nil), fs.OK
	}
	answer, err := f.client.GetObject(ctx, &oss.GetObjectRequest{
		Bucket: oss.Ptr(f.Bucket), Key: oss.Ptr(f.key), Range: oss.Ptr(fmt.Sprintf("bytes=%d-%d", offset, end-1)),
	})
	if err != nil {
		return nil, errno(err)
	}
	defer answer.Body.Close()
	if _, err := io.ReadFull(answer.Body, into[:end-offset]); err != nil {
		return nil, syscall.EIO
	}
	return fuse.ReadResultData(into[:end-offset]), fs.OK
}
