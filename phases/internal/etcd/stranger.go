package etcd

import (
	"context"
	"crypto/tls"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// strangerTimeout bounds each step of [AnswersStrangers]: an etcd that refuses does so at once.
const strangerTimeout = 3 * time.Second

// AnswersStrangers says whether the etcd at a client URL answers a read from a client that shows no
// certificate and verifies none. A handshake alone proves nothing: in TLS 1.3 the client's ends
// before the server has judged it. An etcd that asks its users for a password does not answer.
func AnswersStrangers(ctx context.Context, endpoint string) bool {
	at, err := parsePlace(endpoint)
	if err != nil {
		return false
	}
	c := &Client{access: Access{Endpoints: []string{endpoint}, DialTimeout: strangerTimeout}}
	if at.secure {
		// Whose server it is does not matter, only whether it answers.
		c.tls = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}
	}
	if c.probe(ctx, endpoint) != nil {
		return false
	}
	v3, err := clientv3.New(clientv3.Config{Endpoints: c.access.Endpoints,
		TLS: c.tls, Logger: zap.NewNop(), DialTimeout: strangerTimeout, DialOptions: direct("")})
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, strangerTimeout)
	defer cancel()
	// Serializable, so that it works without a quorum.
	_, err = v3.Get(ctx, "health", clientv3.WithSerializable(), clientv3.WithKeysOnly())
	// Nothing was changed.
	_ = v3.Close()
	return err == nil
}
