package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// Get asks the proxy behind socket for the items of one kind, "frontends", "services",
// "endpoints" or "problems", of the object called name; "" for all.
func Get[T any](ctx context.Context, socket, kind, name string) (*List[T], error) {
	var dialer net.Dialer
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		},
	}
	u := url.URL{Scheme: "http", Host: "fairway", Path: "/v1/" + kind, RawQuery: url.Values{"name": {name}}.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		if u := (*url.Error)(nil); errors.As(err, &u) {
			err = u.Err // without the URL, which nobody asked for
		}
		return nil, fmt.Errorf("ask the proxy at %s (is fairway proxy running here?): %w", socket, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // for the message only
		return nil, fmt.Errorf("ask the proxy at %s: %s: %s", socket, resp.Status, strings.TrimSpace(string(text)))
	}
	var list List[T]
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
		return nil, fmt.Errorf("answer of the proxy at %s: %w", socket, err)
	}
	return &list, nil
}
