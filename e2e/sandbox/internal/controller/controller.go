// Package controller is a stand-in for kube-controller-manager and kube-scheduler.
//
// It stands in for: leader election by a Lease, with the real timing (a lease of 15 s, tried every
// 2 s; after 10 s without renewal it exits); and, as kube-controller-manager, for giving every
// Deployment a ReplicaSet while the leader works, which shows when controllers work again. It does
// not stand in for anything else that they do.
package controller

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/e2e/sandbox/kubeapi"
)

const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
	workPeriod    = 500 * time.Millisecond
)

const leases = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"

type lease struct {
	Metadata struct {
		Name            string `json:"name"`
		ResourceVersion string `json:"resourceVersion,omitempty"`
	} `json:"metadata"`
	Spec struct {
		Holder      string    `json:"holderIdentity"`
		Seconds     int       `json:"leaseDurationSeconds"`
		Acquired    time.Time `json:"acquireTime"`
		Renewed     time.Time `json:"renewTime"`
		Transitions int       `json:"leaseTransitions"`
	} `json:"spec"`
}

type elector struct {
	api            *kubeapi.Client
	name, identity string
	seen           string    // the other holder's last record
	seenAt         time.Time // by this process's own clock, as in client-go's leader election
}

// Run takes part in the election named by name until ctx ends. It returns an error
// when it loses the lease.
func Run(ctx context.Context, name string, args []string, logger *log.Logger) error {
	set := flag.NewFlagSet(name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	path := set.String("kubeconfig", "", "")
	for _, arg := range args {
		if strings.HasPrefix(strings.TrimLeft(arg, "-"), "kubeconfig=") {
			if err := set.Parse([]string{arg}); err != nil {
				return err
			}
		}
	}
	api, err := kubeapi.Load(*path)
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	e := &elector{api: api, name: name, identity: fmt.Sprintf("%s_%d_%d", host, os.Getpid(), time.Now().UnixNano())}
	for {
		if err := e.acquire(ctx); err == nil {
			break
		}
		if !pause(ctx, retryPeriod) {
			return nil
		}
	}
	logger.Printf("%s leads as %s", name, e.identity)
	return e.lead(ctx, logger)
}

// lead renews the lease and works, until it cannot renew in time.
func (e *elector) lead(ctx context.Context, logger *log.Logger) error {
	renewed, tried := time.Now(), time.Now()
	for pause(ctx, workPeriod) {
		if e.name == "kube-controller-manager" {
			if err := e.work(ctx); err != nil && ctx.Err() == nil {
				logger.Printf("cannot work: %v", err)
			}
		}
		if time.Since(tried) < retryPeriod {
			continue
		}
		tried = time.Now()
		err := e.acquire(ctx)
		if err == nil {
			renewed = tried
		} else if time.Since(renewed) > renewDeadline && ctx.Err() == nil {
			return fmt.Errorf("leaderelection lost: %w", err)
		}
	}
	return nil
}

// acquire takes or renews the lease, or says why it cannot.
func (e *elector) acquire(ctx context.Context) error {
	var l lease
	err := e.api.Do(ctx, http.MethodGet, leases+"/"+e.name, nil, &l)
	now := time.Now().UTC()
	switch {
	case kubeapi.IsStatus(err, http.StatusNotFound):
		l.Metadata.Name = e.name
		l.Spec.Holder, l.Spec.Seconds, l.Spec.Acquired, l.Spec.Renewed = e.identity,
			int(leaseDuration.Seconds()), now, now
		return e.api.Do(ctx, http.MethodPost, leases, l, nil)
	case err != nil:
		return err
	}
	if l.Spec.Holder != e.identity {
		if record := l.Spec.Holder + l.Spec.Renewed.String(); record != e.seen {
			e.seen, e.seenAt = record, time.Now()
		}
		if l.Spec.Holder != "" && time.Since(e.seenAt) < leaseDuration {
			return errors.New("the lease is held by " + l.Spec.Holder)
		}
		l.Spec.Holder, l.Spec.Acquired = e.identity, now
		l.Spec.Transitions++
	}
	l.Spec.Renewed = now
	return e.api.Do(ctx, http.MethodPut, leases+"/"+e.name, l, nil)
}

type object struct {
	APIVersion string         `json:"apiVersion,omitempty"`
	Kind       string         `json:"kind,omitempty"`
	Metadata   objectMeta     `json:"metadata"`
	Spec       map[string]any `json:"spec,omitempty"`
}

type objectMeta struct {
	Name      string           `json:"name"`
	Namespace string           `json:"namespace"`
	UID       string           `json:"uid,omitempty"`
	Owners    []map[string]any `json:"ownerReferences,omitempty"`
}

// work gives each Deployment without a ReplicaSet one.
func (e *elector) work(ctx context.Context) error {
	var deployments, sets struct {
		Items []object `json:"items"`
	}
	if err := e.api.Do(ctx, http.MethodGet, "/apis/apps/v1/deployments", nil, &deployments); err != nil {
		return err
	}
	if err := e.api.Do(ctx, http.MethodGet, "/apis/apps/v1/replicasets", nil, &sets); err != nil {
		return err
	}
	owned := map[string]bool{}
	for _, set := range sets.Items {
		for _, owner := range set.Metadata.Owners {
			owned[fmt.Sprint(owner["uid"])] = true
		}
	}
	for _, d := range deployments.Items {
		if owned[d.Metadata.UID] {
			continue
		}
		hash := fnv.New32a()
		fmt.Fprint(hash, d.Metadata.UID)
		set := object{Metadata: objectMeta{
			Name: fmt.Sprintf("%s-%x", d.Metadata.Name, hash.Sum32()), Namespace: d.Metadata.Namespace,
			Owners: []map[string]any{
				{"apiVersion": "apps/v1", "kind": "Deployment",
					"name": d.Metadata.Name, "uid": d.Metadata.UID, "controller": true},
			},
		}, Spec: d.Spec}
		err := e.api.Do(ctx, http.MethodPost, "/apis/apps/v1/namespaces/"+d.Metadata.Namespace+"/replicasets", set, nil)
		if err != nil && !kubeapi.IsStatus(err, http.StatusConflict) {
			return err
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
