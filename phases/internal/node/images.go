package node

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Image asks as the kubelet does before it makes a container.
func (r runtime) Image(ctx context.Context, name string) (Image, error) {
	var found Image
	err := r.connect(ctx, callWait, func(ctx context.Context, conn *grpc.ClientConn) error {
		// Verbose, for the labels. A runtime that tells nothing more tells at least whether it is
		// here.
		answer, err := cri.NewImageServiceClient(conn).ImageStatus(ctx,
			&cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: tagged(name)}, Verbose: true})
		if err != nil || answer.GetImage() == nil {
			return err
		}
		found = Image{Present: true, Tags: answer.Image.RepoTags, Version: labelledVersion(answer.Info)}
		return nil
	})
	if err != nil {
		return Image{}, fmt.Errorf("cannot look for the image %s: %w", name, err)
	}
	return found, nil
}

// pullTells is how often somebody is told that an image is still being fetched: CRI does not say
// how much of it is here.
const pullTells = 10 * time.Second

// Pull asks the runtime alone: pull secrets and credential providers are the kubelet's.
func (r runtime) Pull(ctx context.Context, name string, limit time.Duration, waiting func(time.Duration)) error {
	done := make(chan error, 1)
	go func() {
		done <- r.connect(ctx, limit, func(ctx context.Context, conn *grpc.ClientConn) error {
			_, err := cri.NewImageServiceClient(conn).PullImage(ctx,
				&cri.PullImageRequest{Image: &cri.ImageSpec{Image: tagged(name)}})
			return err
		})
	}()
	begun, tell := time.Now(), time.NewTicker(pullTells)
	defer tell.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("cannot pull the image %s: %w", name, err)
			}
			return nil
		case <-tell.C:
			waiting(time.Since(begun).Round(time.Second))
		}
	}
}

// tagged adds the tag that the kubelet adds to a name without tag and digest (k8s.io/kubernetes,
// pkg/util/parsers).
func tagged(name string) string {
	if strings.Contains(name, "@") || strings.Contains(name[strings.LastIndex(name, "/")+1:], ":") {
		return name
	}
	return name + ":latest"
}

// labelledVersion reads the labels where containerd and CRI-O show them: below imageSpec.
func labelledVersion(info map[string]string) string {
	var read struct {
		ImageSpec struct {
			Config struct{ Labels map[string]string }
		} `json:"imageSpec"`
		Labels map[string]string `json:"labels"`
	}
	if json.Unmarshal([]byte(info["info"]), &read) != nil {
		return ""
	}
	const label = "org.opencontainers.image.version"
	if v := read.ImageSpec.Config.Labels[label]; v != "" {
		return v
	}
	return read.Labels[label]
}

// SandboxImage reads what kubeadm's own preflight check reads, too. Containerd 2 and CRI-O do not
// tell it there, but keep the image pinned; one image alone that is pinned is that one. The runtime
// is not asked what its sandboxes were made from: that may have been another image.
func (r runtime) SandboxImage(ctx context.Context) (string, error) {
	var read struct {
		SandboxImage string `json:"sandboxImage"`
	}
	err := r.call(ctx, callWait, func(ctx context.Context, c cri.RuntimeServiceClient) error {
		answer, err := c.Status(ctx, &cri.StatusRequest{Verbose: true})
		if err != nil {
			return err
		}
		_ = json.Unmarshal([]byte(answer.Info["config"]), &read) // another form tells nothing
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("cannot determine the image of pod sandboxes: %w", err)
	}
	if read.SandboxImage != "" {
		return read.SandboxImage, nil
	}
	return r.pinned(ctx)
}

// pinned names the image that is never to be deleted, where there is one such. One that has lost
// its name stays pinned, and no sandbox can be made from it. Of one that has its digest left it is
// not known: containerd keeps that when the tag is removed by which sandboxes are made.
func (r runtime) pinned(ctx context.Context) (string, error) {
	var names []string
	err := r.connect(ctx, callWait, func(ctx context.Context, conn *grpc.ClientConn) error {
		answer, err := cri.NewImageServiceClient(conn).ListImages(ctx, &cri.ListImagesRequest{})
		for _, i := range answer.GetImages() {
			switch {
			case !i.Pinned:
			case len(i.RepoTags) > 0:
				names = append(names, i.RepoTags[0])
			case len(i.RepoDigests) > 0:
				names = append(names, "")
			}
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("cannot determine which image sandboxes are made from: %w", err)
	}
	if len(names) != 1 {
		return "", nil
	}
	return names[0], nil
}

func (r runtime) Exit(ctx context.Context, id string) (exit Exit, ok bool, err error) {
	err = r.call(ctx, callWait, func(ctx context.Context, c cri.RuntimeServiceClient) error {
		answer, err := c.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: id})
		if err != nil {
			return err
		}
		if s := answer.GetStatus(); state(s.GetState()) == "exited" {
			exit, ok = Exit{Code: int(s.ExitCode), Reason: s.Reason, Text: s.Message}, true
			if s.StartedAt > 0 {
				exit.Ran = time.Duration(s.FinishedAt - s.StartedAt)
			}
		}
		return nil
	})
	if err != nil {
		return Exit{}, false, fmt.Errorf("cannot read how container %s exited: %w", id, err)
	}
	return exit, ok, nil
}

func (r runtime) LogFile(ctx context.Context, id string) (file string, err error) {
	err = r.call(ctx, callWait, func(ctx context.Context, c cri.RuntimeServiceClient) error {
		answer, err := c.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: id})
		file = answer.GetStatus().GetLogPath()
		return err
	})
	if err != nil {
		return "", fmt.Errorf("cannot determine where the log of container %s is: %w", id, err)
	}
	return file, nil
}
