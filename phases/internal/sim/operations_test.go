package sim

import (
	"reflect"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/op"
)

func TestAnOperationThatWasReadBeforeIsACopy(t *testing.T) {
	pods := []op.Pod{{Name: "etcd", Containers: []string{"etcd"}}}
	fence := op.Fence{Pods: pods, Timeout: time.Minute}
	body, err := op.Encode(&op.PutManifest{Fence: fence, Path: "/etcd.yaml", Data: []byte("text")})
	if err != nil {
		t.Fatal(err)
	}
	var read [3]*op.PutManifest
	for i := range read {
		o, err := op.Decode("put-manifest", body)
		if err != nil {
			t.Fatal(err)
		}
		read[i] = o.(*op.PutManifest)
		if i > 0 && !reflect.DeepEqual(read[i], read[0]) {
			t.Fatalf("it was read as %+v before, and now as %+v", read[0], read[i])
		}
	}
	read[1].Data[0], read[1].Fence.Pods[0].Name, read[1].Fence.Pods[0].Containers[0] = 'T', "other", "other"
	if !reflect.DeepEqual(read[0], read[2]) {
		t.Errorf("what is written to one is in another: %+v", read[2])
	}
	if _, err := op.Decode("put-manifest", []byte(`{"new":1}`)); err == nil {
		t.Error("an unknown field was passed over")
	}
}
