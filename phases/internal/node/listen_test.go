package node

import (
	"context"
	"net"
	"strings"
	"testing"
)

func TestAListenerIsForeseen(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, tt := range []struct{ address, says string }{
		{"127.0.0.1:0", ""},
		{taken.Addr().String(), "another program already does"},
		{"192.0.2.1:2379", "it is not an address of this machine"}, // RFC 5737: nobody's
		{"nonsense", "cannot listen at nonsense"},
	} {
		err := CanListen(context.Background(), tt.address)
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", tt.address, err)
		}
	}
}
