package apiserver

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// requestLimit is the longest that one request may take.
const requestLimit = 30 * time.Second

func (s *server) serveObjects(w http.ResponseWriter, r *http.Request) {
	t, ok := find(r.URL.Path)
	if !ok {
		fail(w, http.StatusNotFound, "NotFound", "the server could not find the requested resource")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), requestLimit)
	defer cancel()
	var code int
	var body any
	var err error
	switch {
	case r.Method == http.MethodGet && r.URL.Query().Has("watch"):
		err = refusal{http.StatusMethodNotAllowed, "MethodNotAllowed", "the stand-in does not serve watches"}
	case r.Method == http.MethodGet && t.name == "":
		code = http.StatusOK
		body, err = s.list(ctx, t, r.URL.Query())
	case r.Method == http.MethodGet:
		code = http.StatusOK
		body, err = s.get(ctx, t)
	case r.Method == http.MethodPost && t.name == "":
		code = http.StatusCreated
		body, err = s.create(ctx, t, r.Body)
	case r.Method == http.MethodPut && t.name != "":
		code = http.StatusOK
		body, err = s.update(ctx, t, r.Body)
	case r.Method == http.MethodDelete && t.name != "":
		code = http.StatusOK
		body, err = s.delete(ctx, t)
	default:
		err = refusal{http.StatusMethodNotAllowed, "MethodNotAllowed",
			"the server does not allow this method on the requested resource"}
	}
	var refused refusal
	switch {
	case errors.As(err, &refused):
		fail(w, refused.code, refused.reason, refused.message)
	case err != nil:
		fail(w, http.StatusInternalServerError, "InternalError", err.Error())
	default:
		reply(w, code, body)
	}
}

// refusal is an error caused by the client.
type refusal struct {
	code            int
	reason, message string
}

func (r refusal) Error() string { return r.message }

func notFound(t target) error {
	return refusal{http.StatusNotFound, "NotFound", fmt.Sprintf("%s %q not found", t.Name, t.name)}
}

func conflict(t target) error {
	return refusal{
		http.StatusConflict, "Conflict", fmt.Sprintf("Operation cannot be fulfilled on %s %q: the object has been "+
			"modified; please apply your changes to the latest version and try again", t.Name, t.name),
	}
}

// page is the content of a continue token: the revision of the whole list and the
// key to continue from.
type page struct {
	Revision int64  `json:"rv"`
	Start    string `json:"start"`
}

func (s *server) list(ctx context.Context, t target, query url.Values) (any, error) {
	prefix := t.key(s.etcdPrefix)
	at := page{Start: prefix}
	limit, token := query.Get("limit"), query.Get("continue")
	if query.Get("resourceVersionMatch") == "Exact" {
		revision, err := strconv.ParseInt(query.Get("resourceVersion"), 10, 64)
		if err != nil {
			return nil, refusal{http.StatusBadRequest, "BadRequest", "resourceVersion is not a number"}
		}
		at.Revision = revision
	}
	if token != "" {
		data, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil || json.Unmarshal(data, &at) != nil || !strings.HasPrefix(at.Start, prefix) {
			return nil, refusal{http.StatusBadRequest, "BadRequest", "continue key is not valid"}
		}
	}
	count, err := strconv.ParseInt("0"+limit, 10, 63)
	if err != nil {
		return nil, refusal{http.StatusBadRequest, "BadRequest", "limit is not a number"}
	}
	got, err := s.etcd.Get(ctx, at.Start, clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix)),
		clientv3.WithLimit(count), clientv3.WithRev(at.Revision))
	if errors.Is(err, rpctypes.ErrCompacted) {
		return nil, refusal{http.StatusGone, "Expired", "The provided continue parameter is too old"}
	}
	if err != nil {
		return nil, err
	}
	items := make([]any, 0, len(got.Kvs))
	for _, kv := range got.Kvs {
		object, err := decode(kv)
		if err != nil {
			return nil, err
		}
		items = append(items, object)
	}
	if at.Revision == 0 {
		at.Revision = got.Header.Revision
	}
	meta := map[string]any{"resourceVersion": strconv.FormatInt(at.Revision, 10)}
	if got.More {
		next, err := json.Marshal(page{at.Revision, string(got.Kvs[len(got.Kvs)-1].Key) + "\x00"})
		if err != nil {
			return nil, err
		}
		meta["continue"] = base64.RawURLEncoding.EncodeToString(next)
		meta["remainingItemCount"] = got.Count - int64(len(got.Kvs))
	}
	return map[string]any{"kind": t.Kind + "List", "apiVersion": t.groupVersion(),
		"metadata": meta, "items": items}, nil
}

func decode(kv *mvccpb.KeyValue) (map[string]any, error) {
	var object map[string]any
	if err := json.Unmarshal(kv.Value, &object); err != nil {
		return nil, fmt.Errorf("unable to decode the value of %s: %w", kv.Key, err)
	}
	metadata(object)["resourceVersion"] = strconv.FormatInt(kv.ModRevision, 10)
	return object, nil
}

func metadata(object map[string]any) map[string]any {
	meta, ok := object["metadata"].(map[string]any)
	if !ok {
		meta = map[string]any{}
		object["metadata"] = meta
	}
	return meta
}

func (s *server) get(ctx context.Context, t target) (map[string]any, error) {
	got, err := s.etcd.Get(ctx, t.key(s.etcdPrefix))
	if err != nil {
		return nil, err
	}
	if len(got.Kvs) == 0 {
		return nil, notFound(t)
	}
	return decode(got.Kvs[0])
}

func (s *server) create(ctx context.Context, t target, body io.Reader) (any, error) {
	object, err := read(t, body)
	if err != nil {
		return nil, err
	}
	t.name, _ = metadata(object)["name"].(string)
	if t.name == "" || t.Namespaced && t.namespace == "" {
		return nil, refusal{http.StatusUnprocessableEntity, "Invalid",
			"a name, and a namespace where the resource has one, are required"}
	}
	written, err := s.put(ctx, t, stamped(object), 0)
	if err == nil && !written {
		err = refusal{http.StatusConflict, "AlreadyExists", fmt.Sprintf("%s %q already exists", t.Name, t.name)}
	}
	return object, err
}

func (s *server) update(ctx context.Context, t target, body io.Reader) (any, error) {
	object, err := read(t, body)
	if err != nil {
		return nil, err
	}
	existing, err := s.get(ctx, t)
	if err != nil {
		return nil, err
	}
	has := metadata(existing)["resourceVersion"].(string)
	if wants, ok := metadata(object)["resourceVersion"].(string); ok && wants != "" && wants != has {
		return nil, conflict(t)
	}
	for _, kept := range []string{"uid", "creationTimestamp"} {
		metadata(object)[kept] = metadata(existing)[kept]
	}
	revision, err := strconv.ParseInt(has, 10, 64)
	if err != nil {
		return nil, err
	}
	written, err := s.put(ctx, t, object, revision)
	if err == nil && !written {
		err = conflict(t)
	}
	return object, err
}

// put writes the object if its key still has that modification revision, 0 for none, and sets the
// new revision in the object.
func (s *server) put(ctx context.Context, t target, object map[string]any, revision int64) (bool, error) {
	delete(metadata(object), "resourceVersion") // it is never stored
	metadata(object)["name"] = t.name
	if t.namespace != "" {
		metadata(object)["namespace"] = t.namespace
	}
	value, err := json.Marshal(object)
	if err != nil {
		return false, err
	}
	key := t.key(s.etcdPrefix)
	done, err := s.etcd.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).
		Then(clientv3.OpPut(key, string(value))).Commit()
	if err != nil {
		return false, err
	}
	metadata(object)["resourceVersion"] = strconv.FormatInt(done.Header.Revision, 10)
	return done.Succeeded, nil
}

func (s *server) delete(ctx context.Context, t target) (any, error) {
	done, err := s.etcd.Delete(ctx, t.key(s.etcdPrefix))
	if err != nil {
		return nil, err
	}
	if done.Deleted == 0 {
		return nil, notFound(t)
	}
	return map[string]any{"kind": "Status", "apiVersion": "v1", "metadata": map[string]any{}, "status": "Success"}, nil
}

func read(t target, body io.Reader) (map[string]any, error) {
	var object map[string]any
	if err := json.NewDecoder(body).Decode(&object); err != nil || object == nil {
		return nil, refusal{http.StatusBadRequest, "BadRequest", "the body is not a JSON object"}
	}
	object["apiVersion"], object["kind"] = t.groupVersion(), t.Kind
	return object, nil
}

// stamped gives a new object its uid and creation time, as the API server does.
func stamped(object map[string]any) map[string]any {
	var uid [16]byte
	rand.Read(uid[:])
	meta := metadata(object)
	meta["uid"] = fmt.Sprintf("%x-%x-%x-%x-%x", uid[:4], uid[4:6], uid[6:8], uid[8:10], uid[10:])
	meta["creationTimestamp"] = time.Now().UTC().Format(time.RFC3339)
	return object
}
