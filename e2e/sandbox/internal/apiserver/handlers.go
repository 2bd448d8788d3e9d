package apiserver

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", s.healthz("livez"))
	mux.HandleFunc("GET /readyz", s.healthz("readyz"))
	mux.HandleFunc("GET /healthz", s.healthz("healthz"))
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]string{"major": "1",
			"minor": "37", "gitVersion": "v1.37.2", "platform": "standin"})
	})
	mux.Handle("GET /api", known(discoverAPI))
	mux.Handle("GET /apis", known(discoverGroups))
	mux.Handle("GET /api/v1", known(func(w http.ResponseWriter, _ *http.Request) { discoverResources(w, "", "v1") }))
	mux.Handle("GET /apis/{group}/{version}", known(func(w http.ResponseWriter, r *http.Request) {
		discoverResources(w, r.PathValue("group"), r.PathValue("version"))
	}))
	mux.Handle("/api/v1/", known(s.serveObjects))
	mux.Handle("/apis/{group}/{version}/", known(s.serveObjects))
	return mux
}

// authenticated refuses requests with a certificate that is not one of the client CA's, or no
// longer, even for what strangers may ask, as kube-apiserver does.
func (s *server) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if shown := r.TLS.PeerCertificates; len(shown) > 0 {
			if _, err := shown[0].Verify(x509.VerifyOptions{Roots: s.clients,
				KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
				fail(w, http.StatusUnauthorized, "Unauthorized", "Unauthorized")
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// known passes requests with a certificate, and refuses others as kube-apiserver
// refuses anonymous requests.
func known(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) == 0 {
			fail(w, http.StatusForbidden, "Forbidden", fmt.Sprintf(
				"forbidden: User \"system:anonymous\" cannot %s path %q", strings.ToLower(r.Method), r.URL.Path))
			return
		}
		next(w, r)
	})
}

// healthz asks etcd. kube-apiserver answers 500, not 503, when a check fails.
func (s *server) healthz(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := s.ping(r.Context(), 2*time.Second); err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprintf(w, "[+]ping ok\n[-]etcd failed: reason withheld\n%s check failed\n", name)
			return
		}
		fmt.Fprint(w, "ok")
	}
}

func reply(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // a client that has gone needs no answer
}

// fail answers with a metav1.Status.
func fail(w http.ResponseWriter, code int, reason, message string) {
	reply(w, code, map[string]any{"kind": "Status", "apiVersion": "v1",
		"metadata": map[string]any{}, "status": "Failure",
		"message": message, "reason": reason, "code": code})
}
