package templates

import (
	"cmp"
	"slices"

	kubeadm "k8s.io/kubernetes/cmd/kubeadm/app/apis/kubeadm/v1"
)

// merged adds a person's arguments to the base ones as kubeadm does (kubeadm,
// util/arguments.go: ArgumentsToCommand): the base ones sorted, without those that are
// replaced, then the person's as written. One with a merge method changes the base argument of
// its name instead; the last of a name decides.
func merged(base []Flag, extra []kubeadm.Arg) []Flag {
	base = slices.SortedFunc(slices.Values(base), func(a, b Flag) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Value, b.Value))
	})
	last := map[string]kubeadm.Arg{}
	var all, tail []Flag
	for _, arg := range extra {
		last[arg.Name] = arg
		if arg.MergeMethod == "" {
			tail = append(tail, Flag{arg.Name, arg.Value})
		}
	}
	for _, f := range base {
		arg, is := last[f.Name]
		if is && arg.MergeMethod == "" {
			continue
		}
		if is {
			f.Value = mergedValue(f.Value, arg)
		}
		all = append(all, f)
	}
	return append(all, tail...)
}

func mergedValue(base string, arg kubeadm.Arg) string {
	switch arg.MergeMethod {
	case kubeadm.ArgMergeMethodAppend:
		return base + arg.Value
	case kubeadm.ArgMergeMethodPrepend:
		return arg.Value + base
	}
	return arg.Value
}

// lastOf returns the last argument of a name: the one that programs use.
func lastOf(args []kubeadm.Arg, name string) (kubeadm.Arg, bool) {
	for _, arg := range slices.Backward(args) {
		if arg.Name == name {
			return arg, true
		}
	}
	return kubeadm.Arg{}, false
}
