package target

import (
	"strings"
	"testing"
)

func TestURLsOfTargets(t *testing.T) {
	for text, want := range map[string]string{
		"file:///mnt/safe/etcd/": "file:///mnt/safe/etcd",
		"s3://bucket":            "s3://bucket",
		"s3://bucket/a/b/?endpoint=https://s3.local:9000":  "s3://bucket/a/b",
		"s3://b/p?lock-days=30&lock-mode=compliance":       "s3://b/p",
		"s3://b/p?sse=kms:alias/x&proxy=environment":       "s3://b/p",
		"azblob://account/container/prefix":                "azblob://account/container/prefix",
		"azblob://account/container?proxy=http://p.l:3128": "azblob://account/container",
		"sftp://backup@nas:2222/etcd?key=/root/k":          "sftp://backup@nas:2222/etcd",
	} {
		u, err := Parse(text)
		if err != nil || u.String() != want || u.Typed() != text || !IsURL(text) {
			t.Errorf("%s: %v, %v", text, u, err)
		}
	}
}

func TestURLsThatNameNoTargetOrHoldACredentialAreRefused(t *testing.T) {
	for text, why := range map[string]string{
		"/mnt/safe":                         "begins with none of",
		"gs://bucket":                       "begins with none of",
		"file://nas/share":                  "names the machine nas",
		"file:///":                          "names no directory",
		"s3:///prefix":                      "names no bucket",
		"azblob://account":                  "names no container",
		"sftp://host/":                      "names no directory",
		"sftp://user:hunter22@host/dir":     "holds a password",
		"s3://AKIAEXAMPLE:hunter22@bucket":  "holds a password",
		"s3://AKIAEXAMPLE@bucket":           "names a user",
		"s3://b?secret-key=hunter22":        "does not take the option secret-key",
		"azblob://a/c?sig=hunter22":         "does not take the option sig",
		"s3://b?path-style=yes":             "path-style is true or false",
		"s3://b?endpoint=s3.local":          "endpoint is http://HOST or https://HOST",
		"s3://b?endpoint=https://u:p@s3":    "holds a credential",
		"s3://b?proxy=http://u:hunter22@p":  "holds a credential",
		"s3://b?lock-days=0":                "a number of days",
		"s3://b?sse=rot13":                  "s3, kms or kms:KEY",
		"s3://b?region=":                    "region is one value",
		"s3://b?region=a&region=b":          "region is one value",
		"sftp://h/d?known-hosts=a&proxy=x":  "does not take the option proxy",
		"s3://b/p#x":                        "no URL of a target",
		"s3://b/%zz":                        "no URL",
		"sftp://user:hunter22@host:x:y/dir": "no URL",
	} {
		u, err := Parse(text)
		if err == nil || !strings.Contains(err.Error(), why) || strings.Contains(err.Error(), "hunter22") {
			t.Errorf("%s: %v, %v", text, u, err)
		}
	}
}
