package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

const (
	mountSeconds = 30
	aliveSeconds = 5
	ready        = "ready"
)

// startMount starts the process that serves the mount, and returns when the folder can be read. It outlives this one,
// as ossfs outlives the plugin: pods keep their files while the plugin restarts.
func startMount(ctx context.Context, v *volume, target string) error {
	ctx, cancel := context.WithTimeout(ctx, mountSeconds*time.Second)
	defer cancel()
	description, err := json.Marshal(v)
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	command := exec.Command(program, "mount", target)
	command.Stdin = strings.NewReader(string(description))
	command.Stderr = os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	output, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return fmt.Errorf("start ossfs failed: %w", err)
	}
	said := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(output).ReadString('\n')
		said <- strings.TrimSpace(line)
		_ = command.Wait() // reaps it whenever it ends
	}()
	select {
	case line := <-said:
		if line == ready {
			return nil
		}
		return fmt.Errorf("ossfs exited: exit status 1, with stderr: %s", line)
	case <-ctx.Done():
		_ = command.Process.Kill()
		_ = unix.Unmount(target, unix.MNT_DETACH)
		return fmt.Errorf("ossfs did not mount in time: %w", ctx.Err())
	}
}

// serveMount is the process that startMount starts. The first line on its standard output says whether it is mounted.
func serveMount(target string) error {
	var v volume
	if err := json.NewDecoder(os.Stdin).Decode(&v); err != nil {
		return err
	}
	// The plugin may be killed; what this process serves has to stay.
	signal.Ignore(syscall.SIGPIPE, syscall.SIGHUP, syscall.SIGINT)
	served, err := newBucket(&v)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), mountSeconds*time.Second)
	defer cancel()
	if err := served.check(ctx); err != nil {
		return err
	}
	server, err := served.mount(target)
	if err != nil {
		return fmt.Errorf("fuse: mount failed: %w", err)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() {
		for range stop {
			if err := server.Unmount(); err != nil {
				fmt.Fprintf(os.Stderr, "%s: %v\n", target, err)
			}
		}
	}()
	fmt.Println(ready)
	server.Wait()
	return nil
}

// state of what is mounted at a path.
type state int

const (
	nothing state = iota
	alive
	dead
)

// stateOf looks into the table of mounts: a stat would wait for a process that hangs.
func stateOf(target string) (state, error) {
	parent, err := filepath.EvalSymlinks(filepath.Dir(target))
	if errors.Is(err, os.ErrNotExist) {
		return nothing, nil
	}
	if err != nil {
		return nothing, err
	}
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(filepath.Join(parent, filepath.Base(target))))
	switch {
	case err != nil || len(mounts) == 0:
		return nothing, err
	case isAlive(target):
		return alive, nil
	default:
		return dead, nil
	}
}

// unmount removes what is mounted at target, if anything is. Of a dead mount, all that waits for it is ended.
func unmount(target string, found state) error {
	switch found {
	case alive:
		return unix.Unmount(target, unix.UMOUNT_NOFOLLOW)
	case dead:
		return unix.Unmount(target, unix.MNT_FORCE|unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	default:
		return nil
	}
}

// isAlive asks the process behind a mount. The kernel would answer a stat for a dead one.
func isAlive(target string) bool {
	answer := make(chan error, 1)
	go func() {
		var statistics unix.Statfs_t
		answer <- unix.Statfs(target, &statistics)
	}()
	select {
	case err := <-answer:
		return err == nil
	case <-time.After(aliveSeconds * time.Second):
		return false
	}
}
