// Command member has kubeadm's own packages make what kubeadm's commands make only beside a running cluster, or not yet: the files of a member that joins, and those of an
// InitConfiguration of the API that `kubeadm init` does not read, kubeadm.k8s.io/v1. It is built in a module that requires kubeadm.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/kubernetes/cmd/kubeadm/app/apis/kubeadm"
	"k8s.io/kubernetes/cmd/kubeadm/app/apis/kubeadm/scheme"
	"k8s.io/kubernetes/cmd/kubeadm/app/apis/kubeadm/v1beta4"
	"k8s.io/kubernetes/cmd/kubeadm/app/apis/kubeadm/validation"
	"k8s.io/kubernetes/cmd/kubeadm/app/phases/certs"
	"k8s.io/kubernetes/cmd/kubeadm/app/phases/controlplane"
	"k8s.io/kubernetes/cmd/kubeadm/app/phases/etcd"
	"k8s.io/kubernetes/cmd/kubeadm/app/util"
	"k8s.io/kubernetes/cmd/kubeadm/app/util/config"
	etcdutil "k8s.io/kubernetes/cmd/kubeadm/app/util/etcd"
	"k8s.io/kubernetes/cmd/kubeadm/app/util/staticpod"
)

const manifests = "/etc/kubernetes/manifests"

// usage: member ROOT [NAME=URL,…]
func main() {
	var err error
	if err = syscall.Chroot(os.Args[1]); err == nil {
		err = os.Chdir("/")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(99)
	}
	if len(os.Args) == 3 {
		err = join(os.Args[2])
	} else {
		err = experimental()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// join follows cmd/join.go: newJoinData, fetchInitConfigurationFromJoinConfiguration.
func join(members string) error {
	options := config.LoadOrDefaultConfigurationOptions{SkipCRIDetect: true}
	join, err := config.LoadOrDefaultJoinConfiguration("/kubeadm.yaml", &v1beta4.JoinConfiguration{}, options)
	if err != nil {
		return err
	}
	if join.ControlPlane == nil {
		return errors.New("it is the configuration of a worker")
	}
	if err := config.VerifyAPIServerBindAddress(join.ControlPlane.LocalAPIEndpoint.AdvertiseAddress); err != nil {
		return err
	}
	kept, err := os.ReadFile("/cluster.yaml")
	if err != nil {
		return err
	}
	init, err := config.BytesToInitConfiguration(kept, true)
	if err != nil {
		return err
	}
	init.NodeRegistration, init.LocalAPIEndpoint, init.Patches = join.NodeRegistration, join.ControlPlane.LocalAPIEndpoint, join.Patches
	var all []etcdutil.Member
	for _, m := range strings.Split(members, ",") {
		name, url, _ := strings.Cut(m, "=")
		all = append(all, etcdutil.Member{Name: name, PeerURL: url})
	}
	return write(init, all)
}

// experimental reads kubeadm.k8s.io/v1 as v1beta4, but for what only v1 has.
func experimental() error {
	text, err := os.ReadFile("/kubeadm.yaml")
	if err != nil {
		return err
	}
	init, err := config.BytesToInitConfiguration(bytes.ReplaceAll(text, []byte("kubeadm.k8s.io/v1\n"), []byte("kubeadm.k8s.io/v1beta4\n")), true)
	if err != nil {
		return err
	}
	kubeadm.SetActiveTimeouts(init.Timeouts)
	documents, err := util.SplitConfigDocuments(text)
	if err != nil {
		return err
	}
	for kind, text := range documents {
		if kind.Kind != "ClusterConfiguration" {
			continue
		}
		var cluster kubeadm.ClusterConfiguration
		if err := runtime.DecodeInto(scheme.Codecs.UniversalDecoder(), text, &cluster); err != nil {
			return err
		}
		init.Etcd, init.APIServer = cluster.Etcd, cluster.APIServer
	}
	if err := validation.ValidateClusterConfiguration(&init.ClusterConfiguration).ToAggregate(); err != nil {
		return err
	}
	return write(init, nil)
}

func write(init *kubeadm.InitConfiguration, members []etcdutil.Member) error {
	patches := ""
	if init.Patches != nil {
		patches = init.Patches.Directory
	}
	err := controlplane.CreateStaticPodFiles(manifests, patches, &init.ClusterConfiguration, &init.LocalAPIEndpoint, false, "kube-apiserver")
	if err != nil || init.Etcd.External != nil {
		return err
	}
	ca, key, err := certs.KubeadmCertEtcdCA().CreateAsCA(init)
	if err != nil {
		return err
	}
	for _, c := range []*certs.KubeadmCert{certs.KubeadmCertEtcdServer(), certs.KubeadmCertEtcdPeer(), certs.KubeadmCertEtcdHealthcheck(), certs.KubeadmCertEtcdAPIClient()} {
		if err := c.CreateFromCA(init, ca, key); err != nil {
			return err
		}
	}
	pod := etcd.GetEtcdPodSpec(&init.ClusterConfiguration, &init.LocalAPIEndpoint, init.NodeRegistration.Name, members)
	if patches != "" {
		patched, err := staticpod.PatchStaticPod(&pod, patches, os.Stdout)
		if err != nil {
			return err
		}
		pod = *patched
	}
	return staticpod.WriteStaticPodToDisk("etcd", manifests, pod)
}
