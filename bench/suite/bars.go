package suite

import (
	"image/color"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/fairway-lb/fairway/bench/dnsbench"
	"github.com/fairway-lb/fairway/bench/nameserver"
)

// A chart has horizontal bars on a logarithmic axis, in groups from top to bottom.
type chart struct {
	file, title, unit string
	series            []series
	groups            []group
	one               bool // the axis begins at 1, or below with what is less
}

// A series is what one bar of every group stands for.
type series struct {
	name  string
	color color.RGBA
}

// A group has a bar for each series.
type group struct {
	label string
	bars  []bar
}

// A bar of no length is only text.
type bar struct {
	value float64
	text  string
}

func (c chart) name() (file, title string) { return c.file, c.title }
func (c chart) empty() bool {
	return !slices.ContainsFunc(c.groups, func(g group) bool {
		return slices.ContainsFunc(g.bars, func(b bar) bool { return b.value > 0 })
	})
}

var (
	blue   = color.RGBA{R: 0, G: 90, B: 181, A: 255}
	orange = color.RGBA{R: 220, G: 120, B: 30, A: 255}
	green  = color.RGBA{R: 100, G: 190, B: 150, A: 255}
	grey   = color.RGBA{R: 150, G: 150, B: 150, A: 255}
)

// namesCharts are CPU per query and the memory of the resolvers.
func namesCharts(all figures) []picture {
	of := func(file, title, unit, measure string, kinds ...string) chart {
		c := chart{file: file, title: title, unit: unit}
		for i, k := range kinds {
			c.series = append(c.series, series{dnsbench.Title(k), []color.RGBA{blue, orange, green, grey}[i]})
		}
		for _, f := range all.list {
			if f.measure != measure || f.subject != fairwayDNS {
				continue
			}
			g := group{label: f.where}
			for _, s := range c.series {
				x := all.by[f.of(s.name)]
				b := bar{text: x.text()}
				if len(x.samples) > 0 {
					b.value = x.value()
				}
				g.bars = append(g.bars, b)
			}
			c.groups = append(c.groups, g)
		}
		return c
	}
	four := []string{nameserver.Fairway, nameserver.CoreDNS, nameserver.NSD, nameserver.Unbound}
	cpu := of("names-cpu.svg", "CPU time of the server for each answered query", "µs", namesCPU, four...)
	rate := of("names-one-core.svg", "Queries per second that one core answers", "queries/s", namesOneCore, four...)
	var memory chart
	for i, m := range dnsbench.SizeMeasures[1:4] {
		x := of("names-memory.svg", "Resident memory of the resolver", "MB", withUnit(m.Name, m.Unit), four[:2]...)
		for j := range x.groups {
			x.groups[j].label += ", " + strings.TrimPrefix(m.Name, "memory, ")
		}
		if i == 0 {
			memory = x
		} else {
			memory.groups = append(memory.groups, x.groups...)
		}
	}
	return []picture{cpu, rate, memory}
}

// headlineChart is the one picture that the README has, too.
func headlineChart(rows []headline) picture {
	c := chart{file: "headline.svg", title: "How many times Fairway's figure is better than that of what it replaces (over 1: better)", unit: "times", one: true,
		series: []series{{"the other / Fairway (of queries/s: Fairway / the other)", blue}}}
	for _, h := range rows {
		b := bar{}
		switch r := h.ratio; {
		case math.IsNaN(r.Value) && !math.IsInf(r.High, 0):
			b = bar{1 / r.High, "over " + number(1/r.High)}
		case math.IsNaN(r.Value):
			b = bar{1 / r.Low, "under " + number(1/r.Low)}
		case h.ours.more:
			b = bar{r.Value, number(r.Value)}
		default:
			b = bar{1 / r.Value, number(1 / r.Value)}
		}
		label, _, _ := strings.Cut(h.what, ", µs")
		for _, unit := range []string{", ms", ", MB", ", s"} {
			label = strings.TrimSuffix(label, unit)
		}
		c.groups = append(c.groups, group{label, []bar{b}})
	}
	return c
}

// svg draws the chart.
func (c chart) svg() ([]byte, error) {
	p := newPlot(c.title)
	low, high := math.Inf(1), math.Inf(-1)
	for _, g := range c.groups {
		for _, b := range g.bars {
			if b.value > 0 {
				low, high = min(low, b.value), max(high, b.value)
			}
		}
	}
	if c.one {
		low, high = min(low*0.9, 1), max(high, 1)
	} else {
		low /= 2
	}
	p.X.Min, p.X.Max = low, high*math.Pow(high/low, 0.2) // room for the numbers
	p.X.Scale, p.X.Tick.Marker, p.X.Label.Text = plot.LogScale{}, plot.LogTicks{Prec: -1}, c.unit
	p.Y.Min, p.Y.Max = -0.5, float64(len(c.groups))-0.5
	var labels []string
	for _, g := range slices.Backward(c.groups) {
		labels = append(labels, g.label)
	}
	p.NominalY(labels...)
	p.Y.Min, p.Y.Max = -0.5, float64(len(c.groups))-0.5
	p.Add(bars{c})
	p.Y.Padding, p.Y.Tick.Label.Font.Size = vg.Points(8), vg.Points(9)
	height := vg.Length(len(c.groups)*(len(c.series)+1))*0.42*vg.Centimeter + 2.2*vg.Centimeter
	if len(c.series) > 1 {
		for _, s := range c.series {
			p.Legend.Add(s.name, swatch{s.color})
		}
		p.Legend.Top = true
		p.Y.Max += 1.1 // room for the legend
		height += vg.Length(len(c.series)) * 0.35 * vg.Centimeter
	}
	return drawn(p, c.file, 22*vg.Centimeter, height)
}

// bars plots the bars of a chart.
type bars struct{ chart }

func (b bars) Plot(canvas draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&canvas)
	text := p.X.Tick.Label
	text.XAlign, text.YAlign = draw.XLeft, draw.YCenter
	each := 0.8 / float64(len(b.series))
	for i, g := range b.groups {
		middle := float64(len(b.groups) - 1 - i)
		for j, one := range g.bars {
			top := middle + 0.4 - float64(j)*each
			from, to := x(p.X.Min), x(p.X.Min)
			if b.one {
				from = x(1)
			}
			if one.value > 0 {
				to = x(one.value)
				canvas.FillPolygon(b.series[j].color, []vg.Point{{X: from, Y: y(top)}, {X: to, Y: y(top)}, {X: to, Y: y(top - each*0.9)}, {X: from, Y: y(top - each*0.9)}})
			}
			canvas.FillText(text, vg.Point{X: max(from, to) + vg.Points(3), Y: y(top - each/2)}, one.text)
		}
	}
	if b.one {
		canvas.StrokeLine2(draw.LineStyle{Color: color.Black, Width: vg.Points(0.7)}, x(1), canvas.Min.Y, x(1), canvas.Max.Y)
	}
}

// A swatch is the picture of a series in a legend.
type swatch struct{ color color.RGBA }

func (s swatch) Thumbnail(c *draw.Canvas) {
	c.FillPolygon(s.color, []vg.Point{c.Min, {X: c.Max.X, Y: c.Min.Y}, c.Max, {X: c.Min.X, Y: c.Max.Y}})
}
