package kubelet

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/etcdpod/etcdpod/e2e/sandbox/internal/hostpath"
)

// Labels by which the kubelet recognizes its containers (k8s.io/kubelet/pkg/types).
const (
	labelPod       = "io.kubernetes.pod.name"
	labelNamespace = "io.kubernetes.pod.namespace"
	labelUID       = "io.kubernetes.pod.uid"
	labelContainer = "io.kubernetes.container.name"
)

// sync gives the pod a ready sandbox and each of its containers a running process,
// except during back-off.
func (k *kubelet) sync(ctx context.Context, w *worker) error {
	containers, err := k.containers(ctx, w.pod)
	if err != nil {
		return err
	}
	sandbox, config, err := k.sandbox(ctx, w.pod)
	if err != nil {
		return err
	}
	for i := range w.pod.Spec.Containers {
		spec := &w.pod.Spec.Containers[i]
		if err := k.syncContainer(ctx, w.pod, spec, containers[spec.Name], sandbox, config); err != nil {
			return fmt.Errorf("container %s: %w", spec.Name, err)
		}
	}
	return nil
}

// containers lists the pod's containers by name, the newest first.
func (k *kubelet) containers(ctx context.Context, pod *corev1.Pod) (map[string][]*runtimeapi.Container, error) {
	reply, err := k.runtime.ListContainers(ctx, &runtimeapi.ListContainersRequest{
		Filter: &runtimeapi.ContainerFilter{LabelSelector: map[string]string{labelUID: string(pod.UID)}}})
	if err != nil {
		return nil, err
	}
	sort.Slice(reply.Containers, func(i, j int) bool {
		return reply.Containers[i].CreatedAt > reply.Containers[j].CreatedAt
	})
	byName := map[string][]*runtimeapi.Container{}
	for _, c := range reply.Containers {
		byName[c.Metadata.Name] = append(byName[c.Metadata.Name], c)
	}
	return byName, nil
}

// sandboxes lists the pod's sandboxes, the newest first.
func (k *kubelet) sandboxes(ctx context.Context, pod *corev1.Pod) ([]*runtimeapi.PodSandbox, error) {
	reply, err := k.runtime.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{
		Filter: &runtimeapi.PodSandboxFilter{LabelSelector: map[string]string{labelUID: string(pod.UID)}}})
	if err != nil {
		return nil, err
	}
	sort.Slice(reply.Items, func(i, j int) bool { return reply.Items[i].CreatedAt > reply.Items[j].CreatedAt })
	return reply.Items, nil
}

// sandbox returns the pod's ready sandbox, and makes one if the newest is not ready.
func (k *kubelet) sandbox(ctx context.Context, pod *corev1.Pod) (string, *runtimeapi.PodSandboxConfig, error) {
	existing, err := k.sandboxes(ctx, pod)
	if err != nil {
		return "", nil, err
	}
	labels := map[string]string{labelPod: pod.Name, labelNamespace: pod.Namespace, labelUID: string(pod.UID)}
	for key, value := range pod.Labels {
		labels[key] = value
	}
	config := &runtimeapi.PodSandboxConfig{
		Metadata:     &runtimeapi.PodSandboxMetadata{Name: pod.Name, Namespace: pod.Namespace, Uid: string(pod.UID)},
		Labels:       labels,
		Annotations:  pod.Annotations,
		LogDirectory: filepath.Join("/var/log/pods", pod.Namespace+"_"+pod.Name+"_"+string(pod.UID)),
	}
	if len(existing) > 0 {
		newest := existing[0]
		config.Metadata.Attempt = newest.Metadata.Attempt
		if newest.State == runtimeapi.PodSandboxState_SANDBOX_READY {
			return newest.Id, config, nil
		}
		config.Metadata.Attempt++
		if _, err := k.runtime.StopPodSandbox(ctx,
			&runtimeapi.StopPodSandboxRequest{PodSandboxId: newest.Id}); err != nil {
			return "", nil, err
		}
	}
	reply, err := k.runtime.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: config})
	if err != nil {
		return "", nil, err
	}
	return reply.PodSandboxId, config, nil
}

// syncContainer starts a container with the next attempt, unless the newest one runs or the
// back-off forbids it. It keeps one dead container.
func (k *kubelet) syncContainer(
	ctx context.Context, pod *corev1.Pod, spec *corev1.Container,
	known []*runtimeapi.Container, sandbox string, podConfig *runtimeapi.PodSandboxConfig,
) error {
	attempt := uint32(0)
	if len(known) > 0 {
		newest := known[0]
		attempt = newest.Metadata.Attempt + 1
		switch newest.State {
		case runtimeapi.ContainerState_CONTAINER_RUNNING:
			return nil
		case runtimeapi.ContainerState_CONTAINER_EXITED:
			reply, err := k.runtime.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: newest.Id})
			if err != nil {
				return err
			}
			if !k.restartable(pod, reply.Status) {
				return nil
			}
			if !k.backoffs.mayRestart(string(pod.UID)+"/"+spec.Name,
				time.Unix(0, reply.Status.FinishedAt), time.Now()) {
				return nil
			}
		}
		for _, dead := range known[1:] {
			if _, err := k.runtime.RemoveContainer(ctx,
				&runtimeapi.RemoveContainerRequest{ContainerId: dead.Id}); err != nil {
				return err
			}
		}
	}
	mounts, err := k.mounts(pod, spec)
	if err != nil {
		return err
	}
	created, err := k.runtime.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{
		PodSandboxId: sandbox, SandboxConfig: podConfig, Config: k.containerConfig(pod, spec, attempt, mounts)})
	if err != nil {
		return err
	}
	_, err = k.runtime.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: created.ContainerId})
	return err
}

func (k *kubelet) restartable(pod *corev1.Pod, last *runtimeapi.ContainerStatus) bool {
	switch pod.Spec.RestartPolicy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return last.ExitCode != 0
	}
	return true
}

func (k *kubelet) containerConfig(
	pod *corev1.Pod, spec *corev1.Container, attempt uint32, mounts []*runtimeapi.Mount,
) *runtimeapi.ContainerConfig {
	vars := k.environment(pod, spec)
	config := &runtimeapi.ContainerConfig{
		Envs:       vars,
		Metadata:   &runtimeapi.ContainerMetadata{Name: spec.Name, Attempt: attempt},
		Image:      &runtimeapi.ImageSpec{Image: spec.Image, UserSpecifiedImage: spec.Image},
		Command:    expanded(spec.Command, vars),
		Args:       expanded(spec.Args, vars),
		WorkingDir: spec.WorkingDir,
		Mounts:     mounts,
		LogPath:    filepath.Join(spec.Name, strconv.Itoa(int(attempt))+".log"),
		Labels: map[string]string{labelPod: pod.Name, labelNamespace: pod.Namespace,
			labelUID: string(pod.UID), labelContainer: spec.Name},
		Annotations: map[string]string{
			"io.kubernetes.container.restartCount":           strconv.Itoa(int(attempt)),
			"io.kubernetes.pod.terminationGracePeriod":       strconv.Itoa(int(grace(pod))),
			"io.kubernetes.container.terminationMessagePath": "/dev/termination-log",
		},
	}
	return config
}

// mounts resolves a container's host path mounts, making or checking each path as its type demands.
func (k *kubelet) mounts(pod *corev1.Pod, spec *corev1.Container) ([]*runtimeapi.Mount, error) {
	volumes := map[string]*corev1.HostPathVolumeSource{}
	for _, volume := range pod.Spec.Volumes {
		volumes[volume.Name] = volume.HostPath
	}
	var mounts []*runtimeapi.Mount
	for _, mount := range spec.VolumeMounts {
		host := volumes[mount.Name]
		if host == nil {
			return nil, fmt.Errorf("volume %s is not a hostPath", mount.Name)
		}
		if err := k.prepare(host); err != nil {
			return nil, fmt.Errorf("volume %s: hostPath type check failed: %w", mount.Name, err)
		}
		mounts = append(mounts, &runtimeapi.Mount{ContainerPath: mount.MountPath,
			HostPath: filepath.Join(host.Path, mount.SubPath), Readonly: mount.ReadOnly})
	}
	return mounts, nil
}

func (k *kubelet) prepare(host *corev1.HostPathVolumeSource) error {
	path, err := hostpath.Resolve(k.Root, host.Path)
	if err != nil {
		return err
	}
	kind := corev1.HostPathUnset
	if host.Type != nil {
		kind = *host.Type
	}
	switch kind {
	case corev1.HostPathDirectoryOrCreate:
		return os.MkdirAll(path, 0o755)
	case corev1.HostPathFileOrCreate:
		file, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o644)
		if err != nil {
			return err
		}
		return file.Close()
	case corev1.HostPathDirectory, corev1.HostPathFile:
		info, err := os.Stat(path)
		if err == nil && info.IsDir() != (kind == corev1.HostPathDirectory) {
			err = fmt.Errorf("%s is not a %s", host.Path, kind)
		}
		return err
	}
	return nil
}

// end stops the pod's containers within its grace period, then removes them and their sandbox.
func (k *kubelet) end(ctx context.Context, w *worker) error {
	containers, err := k.containers(ctx, w.pod)
	if err != nil {
		return err
	}
	for _, known := range containers {
		for _, c := range known {
			if _, err := k.runtime.StopContainer(ctx,
				&runtimeapi.StopContainerRequest{ContainerId: c.Id, Timeout: grace(w.pod)}); err != nil {
				return err
			}
		}
	}
	sandboxes, err := k.sandboxes(ctx, w.pod)
	if err != nil {
		return err
	}
	for _, sandbox := range sandboxes {
		if _, err := k.runtime.RemovePodSandbox(ctx,
			&runtimeapi.RemovePodSandboxRequest{PodSandboxId: sandbox.Id}); err != nil {
			return err
		}
	}
	close(w.done)
	return nil
}

func grace(pod *corev1.Pod) int64 {
	if pod.Spec.TerminationGracePeriodSeconds != nil {
		return *pod.Spec.TerminationGracePeriodSeconds
	}
	return corev1.DefaultTerminationGracePeriodSeconds
}
