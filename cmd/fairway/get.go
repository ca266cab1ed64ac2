package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/fairway-lb/fairway/proxier/admin"
)

// A listing asks the proxy for one kind of thing and writes the answer.
type listing func(ctx context.Context, w io.Writer, socket, name, format string) error

// kinds are what "fairway get" knows.
var kinds = map[string]listing{
	"frontends": list("frontends", frontendColumns),
	"services":  list("services", serviceColumns),
	"endpoints": list("endpoints", endpointColumns),
	"problems":  list("problems", problemColumns),
}

// formats are the values of --output.
var formats = []string{"table", "wide", "json", "yaml"}

func getCommand() *cobra.Command {
	var socket, format string
	c := &cobra.Command{
		Use:   "get frontends|services|endpoints|problems [[NAMESPACE/]SERVICE]",
		Short: "Ask the running proxy what it does",
		Long: `Ask the proxy that runs on this node what it does.

  frontends   addresses and ports that the node load-balances, and where connections go,
              by where they start: in a pod, on the node itself, or outside; M: masqueraded
  services    the Services of the cluster, as the proxy knows them
  endpoints   every endpoint of their ports, whatever its condition
  problems    what objects ask for and the node does not do`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return errors.New("get: want frontends, services, endpoints or problems")
			case kinds[args[0]] == nil:
				return fmt.Errorf("get %q: want frontends, services, endpoints or problems", args[0])
			case len(args) > 2:
				return fmt.Errorf("get %s: %q: want one Service, or none for all", args[0], args[2])
			}
			return nil
		},
		ValidArgs: []string{"frontends", "services", "endpoints", "problems"},
		RunE: func(c *cobra.Command, args []string) error {
			l := kinds[args[0]]
			if !slices.Contains(formats, format) {
				return fmt.Errorf("--output %q: want one of %s", format, strings.Join(formats, ", "))
			}
			name := ""
			if len(args) == 2 {
				name = args[1]
			}
			ctx, cancel := context.WithTimeout(c.Context(), 30*time.Second)
			defer cancel()
			return l(ctx, c.OutOrStdout(), socket, name, format)
		},
	}
	c.Flags().StringVar(&socket, "admin-socket", admin.DefaultSocket, "the socket that the proxy listens on")
	c.Flags().StringVarP(&format, "output", "o", "table", strings.Join(formats, ", "))
	return c
}

// list returns the listing of one kind of thing. Columns names them; those after "|" are wide.
func list[T any](kind string, columns func() (string, func(T) []string)) listing {
	return func(ctx context.Context, w io.Writer, socket, name, format string) error {
		got, err := admin.Get[T](ctx, socket, kind, name)
		if err != nil {
			return err
		}
		switch format {
		case "json":
			e := json.NewEncoder(w)
			e.SetIndent("", "  ")
			return e.Encode(got)
		case "yaml":
			out, err := yaml.Marshal(got)
			if err == nil {
				_, err = w.Write(out)
			}
			return err
		}
		head, row := columns()
		table := newTable(w, head, format == "wide")
		for _, item := range got.Items {
			table.row(row(item))
		}
		return table.flush()
	}
}

// A table is columns of text.
type table struct {
	w     *tabwriter.Writer
	width int // columns that are shown
}

// newTable writes the head: names of columns, of which those after "|" are shown if wide.
func newTable(w io.Writer, head string, wide bool) *table {
	normal, extra, _ := strings.Cut(head, "|")
	names := strings.Fields(normal)
	if wide {
		names = append(names, strings.Fields(extra)...)
	}
	t := &table{tabwriter.NewWriter(w, 0, 8, 2, ' ', 0), len(names)}
	t.row(names)
	return t
}

func (t *table) row(cells []string) {
	fmt.Fprintln(t.w, strings.Join(cells[:t.width], "\t"))
}

func (t *table) flush() error { return t.w.Flush() }

func frontendColumns() (string, func(admin.Frontend) []string) {
	return "FRONTEND KIND SERVICE POD NODE OUTSIDE | AFFINITY SOURCES BALANCE ENDPOINTS", func(f admin.Frontend) []string {
		affinity := "-"
		if f.AffinitySeconds > 0 {
			affinity = (time.Duration(f.AffinitySeconds) * time.Second).String()
		}
		var endpoints []string
		for _, r := range []admin.Route{f.FromPod, f.FromNode, f.FromOutside} {
			for _, e := range r.Endpoints {
				if !slices.Contains(endpoints, e) {
					endpoints = append(endpoints, e)
				}
			}
		}
		for _, e := range f.StandIn {
			endpoints = append(endpoints, "unless "+e+" is there")
		}
		at := net.JoinHostPort(f.Address, strconv.Itoa(int(f.Port)))
		if f.Kind == "NodePort" { // every address of the node
			at = strings.Replace(strings.Replace(at, "0.0.0.0", "*", 1), "::", "*", 1)
		}
		return []string{
			at + "/" + f.Protocol, f.Kind, portName(f.Service, f.PortName),
			routeCell(f.FromPod), routeCell(f.FromNode), routeCell(f.FromOutside),
			affinity, cell(f.Sources), f.Balance, cell(endpoints),
		}
	}
}

// routeCell is the number of endpoints, or what happens without; an M marks masquerade.
func routeCell(r admin.Route) string {
	switch {
	case len(r.Endpoints) == 0:
		return r.Empty
	case r.Masquerade:
		return strconv.Itoa(len(r.Endpoints)) + " M"
	}
	return strconv.Itoa(len(r.Endpoints))
}

func serviceColumns() (string, func(admin.Service) []string) {
	return "SERVICE TYPE CLUSTER-IP EXTERNAL-IP PORTS LOCAL | HEALTH-PORT IGNORED", func(s admin.Service) []string {
		var ports []string
		for _, p := range s.Ports {
			text := strconv.Itoa(int(p.Port))
			if p.NodePort != 0 {
				text += ":" + strconv.Itoa(int(p.NodePort))
			}
			ports = append(ports, text+"/"+p.Protocol)
		}
		cluster := cell(s.ClusterIPs)
		if s.Headless {
			cluster = "None"
		}
		external := cell(append(slices.Clone(s.LoadBalancerIPs), s.ExternalIPs...))
		if s.ExternalName != "" {
			external = s.ExternalName
		}
		health := "-"
		if s.HealthCheckPort != 0 {
			health = strconv.Itoa(int(s.HealthCheckPort))
		}
		return []string{
			s.Namespace + "/" + s.Name, s.Type, cluster, external, cell(ports), strconv.Itoa(s.LocalReady),
			health, orDash(s.Ignored),
		}
	}
}

func endpointColumns() (string, func(admin.Endpoint) []string) {
	return "SERVICE ENDPOINT STATE NODE | LOCAL ZONE TARGET", func(e admin.Endpoint) []string {
		state := "not ready"
		switch {
		case e.Terminating && e.Serving:
			state = "terminating, serving"
		case e.Terminating:
			state = "terminating"
		case e.Ready:
			state = "ready"
		}
		return []string{
			portName(e.Service, e.PortName), net.JoinHostPort(e.Address, strconv.Itoa(int(e.Port))) + "/" + e.Protocol,
			state, orDash(e.Node), strconv.FormatBool(e.Local), orDash(e.Zone), orDash(e.Target),
		}
	}
}

func problemColumns() (string, func(admin.Problem) []string) {
	return "OBJECT REASON MESSAGE", func(p admin.Problem) []string {
		return []string{p.Kind + " " + p.Object, p.Reason, p.Message}
	}
}

func portName(service, port string) string {
	if port == "" {
		return service
	}
	return service + ":" + port
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// cell joins values with commas; none is a dash.
func cell[T any](values []T) string {
	var out []string
	for _, v := range values {
		out = append(out, fmt.Sprint(v))
	}
	return orDash(strings.Join(out, ","))
}
