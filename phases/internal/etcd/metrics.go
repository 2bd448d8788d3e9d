package etcd

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"syscall"
)

// metricsOf reads what a member says at /metrics: at the URLs of its access, which are all its own,
// or else at further ones, at which it may serve its metrics alone (--listen-metrics-urls).
func metricsOf[T any](
	ctx context.Context, a Access, read func(text string) (T, error), further []string,
) (seen T, err error) {
	clients := append(append([]string{}, a.Endpoints...), a.Others...)
	var first error
	refused := 0
	for i, raw := range append(clients, further...) {
		text, err := a.metricsAt(ctx, raw)
		if err == nil {
			if seen, err = read(text); err == nil {
				return seen, nil
			}
			err = fmt.Errorf("%s/metrics %w", raw, err)
		}
		if errors.Is(err, syscall.ECONNREFUSED) && i < len(clients) {
			refused++
		}
		if first == nil {
			first = err
		}
	}
	if refused == len(clients) && refused > 0 {
		return seen, ErrDown
	}
	return seen, fmt.Errorf("cannot read the metrics of etcd: %w", first)
}

func (a Access) metricsAt(ctx context.Context, raw string) (string, error) {
	code, text, err := a.get(ctx, raw, "", "/metrics")
	var host x509.HostnameError
	if errors.As(err, &host) && a.Name != "" {
		code, text, err = a.get(ctx, raw, a.Name, "/metrics")
	}
	if err != nil {
		return "", err
	}
	if code != http.StatusOK {
		return "", fmt.Errorf("%s/metrics answers %d %s", raw, code, http.StatusText(code))
	}
	return string(text), nil
}

// sampleIn reads one line of Prometheus' text format; false: it is a comment, or empty.
func sampleIn(line string) (name, labels string, value float64, ok bool) {
	line = strings.TrimSpace(line)
	at := strings.LastIndexByte(line, ' ')
	if at < 0 || line[0] == '#' {
		return "", "", 0, false
	}
	value, err := strconv.ParseFloat(line[at+1:], 64)
	if err != nil {
		return "", "", 0, false
	}
	name, labels, _ = strings.Cut(line[:at], "{")
	return name, strings.TrimSuffix(labels, "}"), value, true
}

// label is the value of a label. Those that are read here are numbers and ids, which hold no
// commas.
func label(labels, name string) string {
	for pair := range strings.SplitSeq(labels, ",") {
		if key, value, _ := strings.Cut(pair, "="); key == name {
			return strings.Trim(value, `"`)
		}
	}
	return ""
}

const serverID = "etcd_server_id"

// ofMember says whether metrics are of another member than of the one that was asked.
func ofMember(labels string, member uint64) error {
	if id := label(labels, "server_id"); id != FormatID(member) {
		return fmt.Errorf("is of another member, %s", id)
	}
	return nil
}
