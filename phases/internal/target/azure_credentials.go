package target

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
)

// azureAccess is what an account is entered with: the first of these that there is.
type azureAccess struct {
	account, key string
	sas          string
	token        azcore.TokenCredential
}

// azureCredentials come from the environment, as the Azure CLI reads it, or from the pod or machine
// itself.
func azureCredentials(account string) azureAccess {
	a := azureAccess{account: account, key: os.Getenv("AZURE_STORAGE_KEY"),
		sas: strings.TrimPrefix(os.Getenv("AZURE_STORAGE_SAS_TOKEN"), "?")}
	for _, pair := range strings.Split(os.Getenv("AZURE_STORAGE_CONNECTION_STRING"), ";") {
		switch name, value, _ := strings.Cut(pair, "="); {
		case name == "AccountKey" && a.key == "":
			a.key = value
		case name == "SharedAccessSignature" && a.sas == "":
			a.sas = strings.TrimPrefix(value, "?")
		}
	}
	a.token = &azureTokens{client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}}
	return a
}

func (a azureAccess) client(at string, o *container.ClientOptions) (*container.Client, error) {
	switch {
	case a.key != "":
		shared, err := container.NewSharedKeyCredential(a.account, a.key)
		if err != nil {
			return nil, fmt.Errorf("AZURE_STORAGE_KEY is no key of a storage account")
		}
		return container.NewClientWithSharedKeyCredential(at, shared, o)
	case a.sas != "":
		return container.NewClientWithNoCredential(at+"?"+a.sas, o)
	}
	return container.NewClient(at, a.token, o)
}

// azureTokens asks Microsoft Entra for a token: as the workload that the pod is, as the application
// whose secret is in the environment, or as the machine.
type azureTokens struct{ client *http.Client }

const azureInstance = "http://169.254.169.254/metadata/identity/oauth2/token"

// GetToken is called by the SDK, which keeps the token until shortly before its end.
func (t *azureTokens) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	request, err := t.request(ctx, strings.Join(o.Scopes, " "))
	if err != nil {
		return azcore.AccessToken{}, err
	}
	answer, err := t.client.Do(request)
	if err != nil {
		why, _ := unreached(err)
		return azcore.AccessToken{}, fmt.Errorf("there are no credentials for it: neither AZURE_STORAGE_KEY nor "+
			"AZURE_STORAGE_SAS_TOKEN is set, and no identity can be had: %s", why)
	}
	defer answer.Body.Close()
	var said struct {
		Token   string          `json:"access_token"`
		Expires json.RawMessage `json:"expires_in"` // a number, or a string with one
		Error   string          `json:"error"`
	}
	err = json.NewDecoder(io.LimitReader(answer.Body, 1<<20)).Decode(&said)
	if err != nil || said.Token == "" {
		return azcore.AccessToken{}, fmt.Errorf("there are no credentials for it: the identity service answers %d %s",
			answer.StatusCode, said.Error)
	}
	seconds, _ := strconv.Atoi(strings.Trim(string(said.Expires), `"`))
	return azcore.AccessToken{Token: said.Token, ExpiresOn: time.Now().Add(time.Duration(seconds) * time.Second)}, nil
}

func (t *azureTokens) request(ctx context.Context, scope string) (*http.Request, error) {
	client, tenant := os.Getenv("AZURE_CLIENT_ID"), os.Getenv("AZURE_TENANT_ID")
	form := url.Values{"client_id": {client}, "scope": {scope}, "grant_type": {"client_credentials"}}
	switch file, secret := os.Getenv("AZURE_FEDERATED_TOKEN_FILE"), os.Getenv("AZURE_CLIENT_SECRET"); {
	case file != "":
		token, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("AZURE_FEDERATED_TOKEN_FILE cannot be read: %w", err)
		}
		form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		form.Set("client_assertion", strings.TrimSpace(string(token)))
	case secret != "":
		form.Set("client_secret", secret)
	default:
		query := url.Values{"api-version": {"2018-02-01"}, "resource": {strings.TrimSuffix(scope, "/.default")}}
		if client != "" {
			query.Set("client_id", client)
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, azureInstance+"?"+query.Encode(), nil)
		if err == nil {
			r.Header.Set("Metadata", "true")
		}
		return r, err
	}
	authority := os.Getenv("AZURE_AUTHORITY_HOST")
	if authority == "" {
		authority = "https://login.microsoftonline.com/"
	}
	at, err := url.JoinPath(authority, tenant, "oauth2/v2.0/token")
	if err != nil {
		return nil, fmt.Errorf("AZURE_AUTHORITY_HOST is no URL")
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, at, strings.NewReader(form.Encode()))
	if err == nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return r, err
}
