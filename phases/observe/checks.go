package observe

import "github.com/etcdpod/etcdpod/phases/engine"

// What a run needs from a node, as preflight checks: nil, or an [engine.RefusedError].

// CheckKubelet refuses when the kubelet cannot be asked whether it is running.
func (f *Facts) CheckKubelet() error {
	if f.KubeletError == nil {
		return nil
	}
	return engine.Refuse("give the commands with --kubelet-stop-command, --kubelet-start-command and "+
		"--kubelet-status-command", "%v", f.KubeletError)
}

// CheckKubeletRuns refuses when the kubelet cannot be asked, or is not running; task is what the
// kubelet is needed for, and hint what the operator can do.
func (f *Facts) CheckKubeletRuns(task, hint string) error {
	if err := f.CheckKubelet(); err != nil {
		return err
	}
	if !f.KubeletActive {
		return engine.Refuse(hint, "the kubelet is not running: it must %s", task)
	}
	return nil
}

// CheckRuntime refuses when the container runtime cannot be asked what is running.
func (f *Facts) CheckRuntime() error {
	if f.RuntimeError == nil {
		return nil
	}
	return engine.Refuse("start the container runtime, or give its socket with --cri-socket",
		"%v: it is needed to check what is running", f.RuntimeError)
}
