//go:build e2e

package cluster

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

// described is what programs read of `backup -o json`.
type described struct {
	Result struct {
		Path, Node   string
		Fingerprints map[string]string
	}
	Findings []struct{ Code string }
}

// codes are those of what it found.
func (d described) codes() (all []string) {
	for _, f := range d.Findings {
		all = append(all, f.Code)
	}
	slices.Sort(all)
	return all
}

// Each CronJob is printed, created, and begun by hand, as by `kubectl create job --from=cronjob/…`.
func TestThePodsOfTheCronJobsDoTheirWork(t *testing.T) {
	k := take(t)
	image := k.imported()
	k.labelled()

	t.Run("a backup is as good as one that was taken on the node", func(t *testing.T) {
		k := k.with(t)
		var here, inPod described
		k.Must(json.Unmarshal([]byte(last(k.want(0, "backup", "-o", "json").stdout)), &here))
		out := k.pod(k.unit("backup", "--image", image, "--", "-o", "json"))
		k.Must(json.Unmarshal([]byte(last(out)), &inPod))
		k.want(0, "verify", inPod.Result.Path)
		if inPod.Result.Node != here.Result.Node || len(here.Result.Fingerprints) < 4 ||
			!maps.Equal(inPod.Result.Fingerprints, here.Result.Fingerprints) ||
			!slices.Equal(inPod.codes(), here.codes()) {
			t.Errorf("in the pod it is %+v, and on the node %+v", inPod, here)
		}
		k.want(0, "backups")
		if mode := k.shell("stat -c %a:%u " + inPod.Result.Path); mode != "600:0" {
			t.Errorf("it has the mode and owner %s", mode)
		}
	})

	t.Run("a member is defragmented", func(t *testing.T) {
		k := k.with(t)
		out := k.pod(k.unit("defrag", "--image", image, "--", "--min-reclaim", "0%", "-o", "json"))
		var done struct {
			Members []struct{ Name, State string }
		}
		k.Must(json.Unmarshal([]byte(last(out)), &done))
		if len(done.Members) != 1 || done.Members[0].Name != k.node.Name || done.Members[0].State != "defragmented" {
			t.Errorf("it says\n%s", out)
		}
	})

	t.Run("a member is defragmented without root, with certificates from a Secret", func(t *testing.T) {
		k := k.with(t)
		k.secret("etcd-client")
		c := k.created(k.unit("defrag", "--image", image, "--secret", "etcd-client", "--", "--min-reclaim", "0%",
			"--endpoints", "https://"+k.node.Address+":2379"))
		// The rig's nodes have no other network for pods.
		out := k.wrote(k.begun(c, func(s *batchv1.JobSpec) { s.Template.Spec.HostNetwork = true }))
		if !strings.Contains(out, "defragmented") {
			t.Errorf("it says\n%s", out)
		}
	})

	t.Run("on another node than there is, no pod is started", func(t *testing.T) {
		k := k.with(t)
		c := k.created(k.unit("backup", "--image", image, "--node", "elsewhere"))
		job := k.begun(c, func(s *batchv1.JobSpec) { *s.ActiveDeadlineSeconds = 1 })
		if k.howEnded(job) != batchv1.JobFailed {
			t.Error("the Job is done")
		}
	})
}

// unit is the CronJob that etcdpod prints.
func (k *control) unit(args ...string) string {
	k.Helper()
	r := k.etcdpod(append([]string{"units", "cronjob"}, args...)...)
	if r.code != 0 {
		k.Fatalf("no CronJob is printed: %s", r.stderr)
	}
	return r.stdout
}

func last(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return lines[len(lines)-1]
}

// labelled makes the node what kubeadm makes it at the end of its init, for one test: the rig
// leaves that out.
func (k *control) labelled() {
	k.Helper()
	patch := func(value string) {
		text := fmt.Sprintf(`{"metadata":{"labels":{"node-role.kubernetes.io/control-plane":%s}}}`, value)
		_, err := k.client.CoreV1().Nodes().Patch(k.Patiently(), k.node.Name, types.MergePatchType,
			[]byte(text), metav1.PatchOptions{})
		k.Must(err)
	}
	patch(`""`)
	k.Cleanup(func() { patch("null") })
}

// secret makes one of kubeadm's client certificate for health checks, for one test.
func (k *control) secret(name string) {
	k.Helper()
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string][]byte{}}
	for key, file := range map[string]string{"ca.crt": "ca.crt", "tls.crt": "healthcheck-client.crt",
		"tls.key": "healthcheck-client.key"} {
		data, err := k.node.ReadFile("/etc/kubernetes/pki/etcd/" + file)
		k.Must(err)
		s.Data[key] = data
	}
	secrets := k.client.CoreV1().Secrets(metav1.NamespaceSystem)
	_, err := secrets.Create(k.Patiently(), s, metav1.CreateOptions{})
	k.Must(err)
	k.Cleanup(func() { k.Must(secrets.Delete(k.Patiently(), name, metav1.DeleteOptions{})) })
}

// pod runs a CronJob's pod once, and returns what it wrote.
func (k *control) pod(text string) (out string) {
	k.Helper()
	return k.wrote(k.begun(k.created(text), func(*batchv1.JobSpec) {}))
}

// wrote is what the pod of a Job wrote, which must do its work.
func (k *control) wrote(job *batchv1.Job) (out string) {
	k.Helper()
	how := k.howEnded(job)
	pods, err := k.client.CoreV1().Pods(job.Namespace).List(k.Patiently(), metav1.ListOptions{
		LabelSelector: "batch.kubernetes.io/job-name=" + job.Name})
	k.Must(err)
	if len(pods.Items) != 1 {
		k.Fatalf("the Job has %d pods", len(pods.Items))
	}
	logs, err := k.client.CoreV1().Pods(job.Namespace).GetLogs(pods.Items[0].Name, &corev1.PodLogOptions{}).
		DoRaw(k.Patiently())
	if err != nil || how != batchv1.JobComplete {
		k.Fatalf("the Job is %s, and its pod wrote (%v)\n%s\n%+v", how, err, logs, pods.Items[0].Status)
	}
	return string(logs)
}

// created gives the API server a CronJob, for one test.
func (k *control) created(text string) *batchv1.CronJob {
	k.Helper()
	var c batchv1.CronJob
	k.Must(yaml.UnmarshalStrict([]byte(text), &c))
	jobs := k.client.BatchV1().CronJobs(c.Namespace)
	made, err := jobs.Create(k.Patiently(), &c, metav1.CreateOptions{FieldValidation: "Strict"})
	k.Must(err)
	k.Cleanup(func() {
		all := metav1.DeletePropagationForeground
		k.Must(jobs.Delete(k.Patiently(), c.Name, metav1.DeleteOptions{PropagationPolicy: &all}))
		for { // the next one may have its name
			if _, err := jobs.Get(k.Patiently(), c.Name, metav1.GetOptions{}); err != nil {
				return
			}
			time.Sleep(200 * time.Millisecond)
		}
	})
	return made
}

// begun makes a Job of a CronJob, as kubectl does. The rig's nodes have no network for pods, and so
// are not ready: that is tolerated.
func (k *control) begun(c *batchv1.CronJob, change func(*batchv1.JobSpec)) *batchv1.Job {
	k.Helper()
	owner := *metav1.NewControllerRef(c, batchv1.SchemeGroupVersion.WithKind("CronJob"))
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: c.Name + "-now", Namespace: c.Namespace,
			Labels:          c.Spec.JobTemplate.Labels,
			Annotations:     map[string]string{"cronjob.kubernetes.io/instantiate": "manual"},
			OwnerReferences: []metav1.OwnerReference{owner}},
		Spec: *c.Spec.JobTemplate.Spec.DeepCopy(),
	}
	job.Spec.Template.Spec.Tolerations = append(job.Spec.Template.Spec.Tolerations,
		corev1.Toleration{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists})
	change(&job.Spec)
	made, err := k.client.BatchV1().Jobs(c.Namespace).Create(k.Patiently(), job, metav1.CreateOptions{})
	k.Must(err)
	return made
}

// howEnded waits for the end of a Job, and says how it has ended.
func (k *control) howEnded(job *batchv1.Job) batchv1.JobConditionType {
	k.Helper()
	ctx := k.Patiently()
	for {
		now, err := k.client.BatchV1().Jobs(job.Namespace).Get(ctx, job.Name, metav1.GetOptions{})
		k.Must(err)
		for _, c := range now.Status.Conditions {
			if c.Status == corev1.ConditionTrue && (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) {
				return c.Type
			}
		}
		time.Sleep(200 * time.Millisecond)
	}
}
