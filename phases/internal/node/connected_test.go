package node

import (
	"net"
	"net/netip"
	"slices"
	"testing"
)

func TestConnectedListsWhoIsConnectedToAPort(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).AddrPort().Port()
	if before, err := Connected(port); err != nil || len(before) > 0 {
		t.Fatalf("before anybody connects: %v %v", before, err)
	}
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	got, err := Connected(port)
	if err != nil || !slices.Equal(got, []netip.Addr{netip.MustParseAddr("127.0.0.1")}) {
		t.Errorf("got %v %v", got, err)
	}
}

func TestConnectedReadsTheKernelsWords(t *testing.T) {
	const list = `  sl  local_address                         remote_address                        st tx_queue rx_queue
   0: 0100007F:094B 0200000A:C350 01 00000000:00000000 00:00000000 00000000 0 0 1
   1: 0100007F:094B 0300000A:C350 06 00000000:00000000 00:00000000 00000000 0 0 1
   2: 0100007F:1000 0400000A:C350 01 00000000:00000000 00:00000000 00000000 0 0 1
   3: 0000000000000000FFFF00000500000A:094B 0000000000000000FFFF00000600000A:C350 01 00000000:00000000 00:00000000 0 0
   4: B80D01200000000000000000010000 :nonsense
   5: B80D0120000000000000000001000000:094B B80D0120000000000000000002000000:C350 01 0 0 0`
	want := []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.6"),
		netip.MustParseAddr("2001:db8::2")}
	if got := connectedIn(list, 2379); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
