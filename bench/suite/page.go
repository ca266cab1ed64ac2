package suite

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// page is the name of the report's main file.
const page = "benchmarks.md"

// Report makes the report of results: its files by their names, [page] and its pictures.
func Report(files map[string]File) (map[string][]byte, error) {
	r := report{files: files, figures: figuresOf(files), out: map[string][]byte{}}
	r.head()
	if err := r.picture(headlineChart(r.headlines())); err != nil {
		return nil, err
	}
	r.behind()
	r.noise()
	for _, part := range []struct {
		kind, title, method string
		graphs              []picture
	}{
		{programmingCell, "Programming", programmingMethod, programmingGraphs(r.figures)},
		{dataCell, "Data path", dataMethod, dataGraphs(r.figures)},
		{namesCell, "Names", "", namesCharts(r.figures)},
	} {
		cells := r.cells(part.kind)
		if len(cells) == 0 {
			continue
		}
		fmt.Fprintf(&r.b, "## %s\n%s\n", part.title, part.method)
		for _, g := range part.graphs {
			if err := r.picture(g); err != nil {
				return nil, err
			}
		}
		for _, c := range cells {
			if part.kind == namesCell {
				r.b.WriteString(strings.TrimSpace(files[c].Names.Tables()) + "\n\n")
				continue
			}
			r.tables(c)
		}
	}
	r.gaps()
	r.out[page] = []byte(r.b.String())
	return r.out, nil
}

// A report is one that is being written.
type report struct {
	files   map[string]File
	figures figures
	b       strings.Builder
	out     map[string][]byte
}

// cells are the names of those of a kind.
func (r *report) cells(kind string) []string {
	return inOrder(slices.DeleteFunc(slices.Collect(maps.Keys(r.files)), func(c string) bool { return !strings.HasPrefix(c, kind) }))
}

// picture draws a picture and puts it onto the page, unless there is nothing in it.
func (r *report) picture(p picture) error {
	if p == nil || p.empty() {
		return nil
	}
	svg, err := p.svg()
	if err != nil {
		return err
	}
	file, title := p.name()
	r.out["benchmarks/"+file] = svg
	fmt.Fprintf(&r.b, "![%s](benchmarks/%s)\n\n", title, file)
	return nil
}

const intro = `# Benchmarks

Fairway beside what it replaces: kube-proxy (iptables on both of its variants, and nftables) and
CoreDNS, and beside NSD and Unbound, which stand for what an answer costs at the least. Real
programs, real packets through a real kernel, the same objects for all, measured in turns in one
run. ` + "`make bench`" + ` measures it again, ` + "`make bench-quick`" + ` the core of it in under 10 minutes; every sample
is in bench/results, and this page is generated from them.

`

// head says what was compared, on what, and what came of it.
func (r *report) head() {
	r.b.WriteString(intro)
	r.machines()
	rows := r.headlines()
	if len(rows) == 0 {
		return
	}
	r.b.WriteString("\n## In short\n\nRatios are Fairway's figure over the other's: below 1 is better, but for queries/s. In brackets is\nthe 95 % interval; a ratio without has fewer than three samples.\n\n| | Fairway | what it replaces | ratio | another | ratio |\n|---|---|---|---|---|---|\n")
	for _, h := range rows {
		other, ratio := h.rival.subject+": "+h.rival.text(), "-"
		if h.second != nil {
			ratio = h.second.text()
		}
		fmt.Fprintf(&r.b, "| %s | %s | %s: %s | %s | %s | %s |\n", h.what, h.ours.text(), h.theirs.subject, h.theirs.text(), h.pair.text(), other, ratio)
	}
	worse, all := 0, 0
	for _, p := range r.figures.pairs() {
		if all++; p.behind() {
			worse++
		}
	}
	fmt.Fprintf(&r.b, "\nOf all %d comparisons of this page, Fairway is [behind in %d](#where-fairway-is-behind).\n\n", all, worse)
}

// machines says on what was measured, once if all results agree.
func (r *report) machines() {
	seen := map[string][]string{}
	for name, f := range r.files {
		m := f.Machine
		text := fmt.Sprintf("%s, %d cores, Linux %s; %s, by `%s`", m.CPU, m.Cores, m.Kernel, f.Date, f.Command)
		if strings.Contains(f.Command, "--rehearse") {
			text += ", **a rehearsal, which says little**"
		}
		seen[text] = append(seen[text], name)
	}
	versions := map[string][]string{}
	for _, f := range r.files {
		for name, v := range f.Machine.Versions {
			if !slices.Contains(versions[name], v) && v != "" {
				versions[name] = append(versions[name], v)
			}
		}
	}
	for _, text := range slices.Sorted(maps.Keys(seen)) {
		where := ""
		if len(seen) > 1 {
			where = " (" + strings.Join(inOrder(seen[text]), ", ") + ")"
		}
		fmt.Fprintf(&r.b, "Machine: %s%s.\n", text, where)
	}
	var all []string
	for _, name := range slices.Sorted(maps.Keys(versions)) {
		slices.Sort(versions[name])
		all = append(all, name+" "+strings.TrimPrefix(strings.Join(versions[name], " and "), name+" "))
	}
	fmt.Fprintf(&r.b, "Versions: %s.\n", strings.Join(all, ", "))
}

// A headline is one of the few figures that tell most: beside what Fairway replaces, and beside
// another rival, if both have the figure.
type headline struct {
	what string
	pair
	rival  figure // the other's
	second *pair
}

// headlines are of the largest cluster that each of them is measured with, up to 10,000 Services.
func (r *report) headlines() (out []headline) {
	add := func(k key, what string) bool {
		peers := rivals(k.subject)
		p, ok := r.figures.pair(k, peers[0])
		if !ok {
			return false
		}
		h := headline{what: what, pair: p, rival: r.figures.by[k.of(peers[1])]}
		if q, ok := r.figures.pair(k, peers[1]); ok {
			h.second = &q
		}
		out = append(out, h)
		return true
	}
	// largest adds the figure of the largest cluster that has one.
	largest := func(subject, measure string, at func(services int) key) {
		for _, size := range []int{10_000, 1000, 10} {
			if add(at(size), fmt.Sprintf("%s, %s Services: %s", subject, thousands(size), measure)) {
				return
			}
		}
	}
	for _, s := range ours {
		for _, m := range []string{firstSync, changeP50, changeCPU, residentMB} {
			largest(s, m, func(n int) key { return key{cell: name(programmingCell, n, false), measure: m, subject: s} })
		}
		largest(s, connectP50, func(n int) key { return key{name(dataCell, n, false), lastService, connectP50, s} })
	}
	for _, m := range []string{namesCPU, namesOneCore, namesP99} {
		for _, mix := range []string{"cluster A", "external, cached"} {
			add(key{namesCell, mix, m, fairwayDNS}, "names, "+mix+": "+m)
		}
	}
	for _, f := range r.figures.list {
		if f.measure == namesMemory && f.subject == fairwayDNS {
			add(f.key, "names, "+f.where+": "+f.measure)
		}
	}
	return out
}

// behind lists every comparison that Fairway loses beyond the interval.
func (r *report) behind() {
	r.b.WriteString("## Where Fairway is behind\n\n")
	var rows []pair
	compared := 0
	for _, p := range r.figures.pairs() {
		if compared++; p.behind() {
			rows = append(rows, p)
		}
	}
	fmt.Fprintf(&r.b, "Every measure in every cell in which Fairway is worse than a peer, beyond the 95 %% interval of the ratio, or by more than 10 %% where there are fewer than %d samples: %d of %d comparisons, each variant of Fairway beside kube-proxy on the same variant and beside kube-proxy nftables, and `fairway dns` beside CoreDNS, NSD and Unbound. Left out: nothing.\n\n", enough, len(rows), compared)
	if beyond, all := r.chance(); all > 0 {
		fmt.Fprintf(&r.b, "What chance makes of it: of %d comparisons of a subject with itself, %d differ beyond the interval in one direction or the other.\n\n", all, beyond)
	}
	if len(rows) == 0 {
		return
	}
	r.b.WriteString("| cell | | Fairway | the other | ratio |\n|---|---|---|---|---|\n")
	for _, p := range rows {
		fmt.Fprintf(&r.b, "| %s | %s | %s %s | %s %s | %s |\n", label(p.ours.cell), strings.TrimPrefix(p.ours.where+": ", ": ")+p.ours.measure,
			p.ours.subject, p.ours.text(), p.theirs.subject, p.theirs.text(), p.text())
	}
	r.b.WriteString("\n")
}

// chance is how many figures of a subject differ from its own copy's.
func (r *report) chance() (beyond, all int) {
	for _, t := range r.figures.twins() {
		beyond, all = beyond+t.beyond, all+t.all
	}
	return beyond, all
}

// noise says how far subjects are from themselves.
func (r *report) noise() {
	twins := r.figures.twins()
	if len(twins) == 0 {
		return
	}
	fmt.Fprintf(&r.b, "## Noise: the same subject twice\n\nThe direct connection and some subjects are measured as if they were two. Where the medians of such a pair are more than %.0f %% apart, the machine was too noisy for ratios as near to 1 as that, and the figures are named.\n\n| cell | subject | medians compared | apart by over %.0f %% | |\n|---|---|---|---|---|\n", 100*tolerance, 100*tolerance)
	for _, t := range twins {
		verdict := "quiet"
		switch {
		case t.compared == 0:
			verdict = "too few samples"
		case len(t.apart) > 0:
			verdict = "**too noisy** for: " + strings.Join(t.apart, "; ")
		}
		fmt.Fprintf(&r.b, "| %s | %s | %d | %d | %s |\n", label(t.cell), t.subject, t.compared, len(t.apart), verdict)
	}
	r.b.WriteString("\n")
}

// gaps says what is not measured, and why.
func (r *report) gaps() {
	r.b.WriteString("## What is not measured\n\n")
	for _, g := range gaps {
		fmt.Fprintf(&r.b, "- %s: %s.\n", g.what, g.why)
	}
}

// tables writes the figures of a cell, and the ratios of ours to each rival's.
func (r *report) tables(cell string) {
	fmt.Fprintf(&r.b, "### %s\n\n", strings.ToUpper(label(cell)[:1])+label(cell)[1:])
	if p := r.files[cell].Scale; p != nil {
		o := p.Options
		fmt.Fprintf(&r.b, "%d run(s) of each subject, %d changes in each, limit %.0f s", o.Runs, o.Changes, o.Limit.Seconds())
		if o.ChurnFor > 0 {
			fmt.Fprintf(&r.b, ", 100 changes/s for %.0f s", o.ChurnFor.Seconds())
		}
		r.b.WriteString(".\n\n")
	}
	if d := r.files[cell].Data; d != nil {
		fmt.Fprintf(&r.b, "%d rounds.\n\n", d.Options.Rounds)
	}
	for _, where := range r.distinct(cell, func(k key) string { return k.where }) {
		in := func(k key) bool { return k.cell == cell && k.where == where }
		r.table(where, in)
		r.ratios(in)
	}
}

// distinct are the different values of a part of the keys of a cell, in order.
func (r *report) distinct(cell string, part func(key) string) (out []string) {
	for _, f := range r.figures.list {
		if f.cell == cell && !slices.Contains(out, part(f.key)) {
			out = append(out, part(f.key))
		}
	}
	return out
}

// grid sorts figures into rows by measure and columns by subject.
func (r *report) grid(in func(key) bool) (measures, subjects []string, at map[[2]string]figure) {
	at = map[[2]string]figure{}
	for _, f := range r.figures.list {
		if !in(f.key) {
			continue
		}
		if !slices.Contains(measures, f.measure) {
			measures = append(measures, f.measure)
		}
		if !slices.Contains(subjects, f.subject) {
			subjects = append(subjects, f.subject)
		}
		at[[2]string{f.measure, f.subject}] = f
	}
	return measures, subjects, at
}

// header begins a table.
func (r *report) header(title string, columns []string) {
	fmt.Fprintf(&r.b, "| %s | %s |\n|---%s|\n", title, strings.Join(columns, " | "), strings.Repeat("|---", len(columns)))
}

func (r *report) table(title string, in func(key) bool) {
	measures, subjects, at := r.grid(in)
	r.header(title, subjects)
	for _, m := range measures {
		r.b.WriteString("| " + m)
		for _, subject := range subjects {
			f := at[[2]string{m, subject}]
			text := f.text()
			if d, ok := r.figures.direct(f); ok && f.subject != d.subject && !f.sum && len(f.samples) > 0 {
				if p, ok := r.figures.pair(f.key, d.subject); ok {
					text += " (" + p.text() + ")"
				}
			}
			r.b.WriteString(" | " + text)
		}
		r.b.WriteString(" |\n")
	}
	r.b.WriteString("\n")
}

// ratios are those of ours to each rival, and of a subject to its copy.
func (r *report) ratios(in func(key) bool) {
	measures, subjects, at := r.grid(in)
	var pairs [][2]string
	var columns []string
	for _, subject := range subjects {
		for _, rival := range append(rivals(subject), subject+again) {
			if slices.Contains(subjects, rival) {
				pairs, columns = append(pairs, [2]string{subject, rival}), append(columns, subject+" / "+rival)
			}
		}
	}
	r.header("ratio", columns)
	for _, m := range measures {
		r.b.WriteString("| " + m)
		for _, both := range pairs {
			text := "-"
			if p, ok := r.figures.pair(at[[2]string{m, both[0]}].key, both[1]); ok {
				text = p.text()
				if both[1] != both[0]+again && p.behind() {
					text += " **behind**"
				}
			}
			r.b.WriteString(" | " + text)
		}
		r.b.WriteString(" |\n")
	}
	r.b.WriteString("\n")
}

// Save writes a report into a directory.
func Save(dir string, report map[string][]byte) error {
	for name, content := range report {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}
