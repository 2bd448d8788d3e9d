package target

import (
	"cmp"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
)

// URL is where a target is, and how to get there. It holds nothing secret.
type URL struct {
	Scheme  string // file, s3, azblob, sftp
	Host    string // the bucket, the account, or host:port
	User    string // sftp
	Path    string // the directory or prefix; without a slash at its ends, but for file and sftp
	typed   string
	options url.Values
}

// String is the target without its options.
func (u URL) String() string {
	switch user := ""; u.Scheme {
	case "file":
		return "file://" + u.Path
	case "sftp":
		if u.User != "" {
			user = u.User + "@"
		}
		return "sftp://" + user + u.Host + u.Path
	default:
		return strings.TrimSuffix(u.Scheme+"://"+u.Host+"/"+u.Path, "/")
	}
}

// Typed is the URL as somebody gave it.
func (u URL) Typed() string { return u.typed }

// Option is an option of the URL; empty: not given.
func (u URL) Option(name string) string { return u.options.Get(name) }

// options are those that each kind of target takes, each with the values that it may have; none:
// any.
var options = map[string]map[string][]string{
	"file": {},
	"s3": {"endpoint": nil, "region": nil, "path-style": {"true", "false"}, "ca": nil, "checksums": {"on", "off"},
		"sse": nil, "proxy": nil, "lock-days": nil, "lock-mode": {"governance", "compliance"}},
	"azblob": {"endpoint": nil, "ca": nil, "proxy": nil},
	"sftp":   {"known-hosts": nil, "key": nil},
}

// IsURL says whether a word is meant as a target, or as something in one, and not as a file.
func IsURL(word string) bool {
	scheme, _, found := strings.Cut(word, "://")
	return found && scheme != "" && !strings.ContainsAny(scheme, "/.")
}

// Parse reads a URL, and refuses one that names a credential or what its kind of target does not
// know.
func Parse(text string) (URL, error) {
	raw, err := url.Parse(text)
	if err != nil {
		return URL{}, fmt.Errorf("it is no URL") // what was typed may hold a password
	}
	known, ok := options[raw.Scheme]
	switch _, password := raw.User.Password(); {
	case !ok:
		return URL{}, fmt.Errorf("it begins with none of file://, s3://, azblob:// and sftp://")
	case password:
		return URL{}, fmt.Errorf("it holds a password: credentials come from the environment or from files")
	case raw.User != nil && raw.Scheme != "sftp":
		return URL{}, fmt.Errorf("it names a user: credentials come from the environment or from files")
	case raw.Fragment != "" || raw.Opaque != "":
		return URL{}, fmt.Errorf("it is no URL of a target")
	}
	values, err := url.ParseQuery(raw.RawQuery)
	if err != nil {
		return URL{}, fmt.Errorf("its options cannot be read")
	}
	u := URL{Scheme: raw.Scheme, Host: raw.Host, User: raw.User.Username(), Path: raw.Path,
		typed: text, options: values}
	for name, given := range values {
		may, ok := known[name]
		if !ok {
			return URL{}, fmt.Errorf("%s:// does not take the option %s", u.Scheme, name)
		}
		if len(given) != 1 || given[0] == "" || may != nil && !slices.Contains(may, given[0]) {
			return URL{}, fmt.Errorf("its option %s is %s", name, cmp.Or(strings.Join(may, " or "), "one value"))
		}
	}
	return u, cmp.Or(u.checkPlace(), u.checkOptions())
}

// checkPlace refuses what names no place, and tidies what does.
func (u *URL) checkPlace() error {
	switch {
	case u.Scheme == "file" && u.Host != "":
		return fmt.Errorf("it names the machine %s: a directory is given as file:///DIR", u.Host)
	case u.Scheme == "file" && (u.Path == "" || path.Clean(u.Path) == "/"):
		return fmt.Errorf("it names no directory, as in file:///mnt/safe/etcd")
	case u.Scheme != "file" && u.Host == "":
		return fmt.Errorf("it names no %s", map[string]string{"s3": "bucket, as in s3://BUCKET/PREFIX",
			"azblob": "account, as in azblob://ACCOUNT/CONTAINER/PREFIX",
			"sftp":   "host, as in sftp://USER@HOST/DIR"}[u.Scheme])
	case u.Scheme == "sftp" && strings.Trim(u.Path, "/") == "":
		return fmt.Errorf("it names no directory, as in sftp://USER@HOST/DIR")
	case u.Scheme == "azblob" && strings.Trim(u.Path, "/") == "":
		return fmt.Errorf("it names no container, as in azblob://ACCOUNT/CONTAINER/PREFIX")
	}
	if u.Path = path.Clean("/" + u.Path); u.Scheme == "s3" || u.Scheme == "azblob" {
		u.Path = strings.Trim(u.Path, "/")
	}
	return nil
}

func (u *URL) checkOptions() error {
	if days := u.Option("lock-days"); days != "" {
		if n, err := strconv.Atoi(days); err != nil || n < 1 {
			return fmt.Errorf("its option lock-days is a number of days, 1 or more")
		}
	}
	sse := u.Option("sse")
	if kind, _, _ := strings.Cut(sse, ":"); sse != "" && kind != "s3" && kind != "kms" {
		return fmt.Errorf("its option sse is s3, kms or kms:KEY")
	}
	for _, name := range []string{"endpoint", "proxy"} {
		given := u.Option(name)
		if given == "" || name == "proxy" && given == "environment" {
			continue
		}
		at, err := url.Parse(given)
		switch {
		case err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https":
			return fmt.Errorf("its option %s is http://HOST or https://HOST", name)
		case at.User != nil || at.RawQuery != "":
			return fmt.Errorf("its option %s holds a credential, or options of its own", name)
		}
	}
	return nil
}
