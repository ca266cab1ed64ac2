package suite

import (
	"bytes"
	"fmt"
	"image/color"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/fairway-lb/fairway/bench/stage"
	"github.com/fairway-lb/fairway/bench/stats"
)

// A picture is one of a report.
type picture interface {
	name() (file, title string)
	empty() bool
	svg() ([]byte, error)
}

// A graph is a figure over the number of Services, a line a subject.
type graph struct {
	file, title, unit string
	points            map[string]plotter.XYs // by subject
}

func (g graph) name() (file, title string) { return g.file, g.title }
func (g graph) empty() bool                { return len(g.points) == 0 }

// programmingGraphs are over the number of Services.
func programmingGraphs(all figures) (out []picture) {
	for _, g := range []struct{ measure, file, title, unit string }{
		{firstSync, "first-sync.svg", "From the start of the proxy until all Services work", "s"},
		{changeP50, "change.svg", "From a change of one endpoint until packets follow", "ms"},
		{changeCPU, "change-cpu.svg", "CPU time of one change", "ms"},
		{residentMB, "memory.svg", "Resident memory of the proxy", "MB"},
	} {
		out = append(out, overServices(g.file, g.title, g.unit, all, func(f figure) (float64, bool) {
			return f.value(), f.measure == g.measure && len(f.samples) > 0
		}))
	}
	return out
}

// dataGraphs are over the number of Services.
func dataGraphs(all figures) []picture {
	return []picture{overServices("connect.svg", "Connecting from a pod to the last Service, times the direct connection", "times", all, func(f figure) (float64, bool) {
		if f.measure != connectP50 || f.where != lastService || place(f.cell)[2] > 0 || len(f.samples) == 0 {
			return 0, false
		}
		d, ok := all.direct(f)
		if !ok {
			return 0, false
		}
		return stats.Ratio(f.samples, d.samples).Value, true
	})}
}

// overServices gathers the points of the figures that of wants.
func overServices(file, title, unit string, all figures, of func(figure) (float64, bool)) graph {
	g := graph{file, title, unit, map[string]plotter.XYs{}}
	for _, f := range all.list {
		if !slices.ContainsFunc(stage.Proxies, func(s stage.Subject) bool { return s.Name == f.subject }) {
			continue
		}
		if y, ok := of(f); ok {
			g.points[f.subject] = append(g.points[f.subject], plotter.XY{X: float64(place(f.cell)[1]), Y: y})
		}
	}
	return g
}

// lines tell subjects apart without colour as well: ours are drawn through, peers are dashed.
var lines = []struct {
	color  color.RGBA
	dashes []vg.Length
	shape  draw.GlyphDrawer
}{
	{color.RGBA{R: 0, G: 90, B: 181, A: 255}, nil, draw.CircleGlyph{}},
	{color.RGBA{R: 86, G: 160, B: 233, A: 255}, []vg.Length{5, 4}, draw.RingGlyph{}},
	{color.RGBA{R: 0, G: 130, B: 90, A: 255}, nil, draw.BoxGlyph{}},
	{color.RGBA{R: 100, G: 190, B: 150, A: 255}, []vg.Length{5, 4}, draw.SquareGlyph{}},
	{color.RGBA{R: 200, G: 90, B: 0, A: 255}, []vg.Length{2, 3}, draw.TriangleGlyph{}},
}

// newPlot is an empty plot with a title.
func newPlot(title string) *plot.Plot {
	p := plot.New()
	p.Title.Text = title
	for _, f := range []*font.Font{&p.Title.TextStyle.Font, &p.X.Label.TextStyle.Font, &p.Y.Label.TextStyle.Font,
		&p.X.Tick.Label.Font, &p.Y.Tick.Label.Font, &p.Legend.TextStyle.Font} {
		f.Variant = "Sans"
	}
	p.Title.TextStyle.Font.Size, p.Legend.TextStyle.Font.Size = vg.Points(12), vg.Points(10)
	p.Legend.Padding = vg.Points(2)
	p.Title.Padding = vg.Points(6)
	return p
}

// drawn is the plot as SVG.
func drawn(p *plot.Plot, file string, width, height vg.Length) ([]byte, error) {
	c := vgsvg.New(width, height)
	p.Draw(draw.Crop(draw.New(c), 0, -vg.Centimeter, vg.Millimeter, -vg.Millimeter)) // the last tick's number is wide
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return bytes.ReplaceAll(b.Bytes(), []byte("Liberation Sans"), []byte(fonts)), nil
}

// fonts are those to draw with: they all have the widths that the plot is laid out for.
const fonts = "Liberation Sans,Arial,Helvetica,sans-serif"

// svg draws the graph. Both axes are logarithmic where the values span more than a decade.
func (g graph) svg() ([]byte, error) {
	p := newPlot(g.title)
	p.X.Label.Text, p.Y.Label.Text = "Services", g.unit
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.Legend.Top, p.Legend.Left = true, true
	p.Add(plotter.NewGrid())
	low, high := 0.0, 0.0
	for i, s := range stage.Proxies {
		points := slices.Clone(g.points[s.Name])
		if len(points) == 0 {
			continue
		}
		slices.SortFunc(points, func(a, b plotter.XY) int { return int(a.X - b.X) })
		line, dots, err := plotter.NewLinePoints(points)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", g.file, err)
		}
		look := lines[i%len(lines)]
		line.Color, line.Dashes, line.Width = look.color, look.dashes, vg.Points(1.5)
		dots.Color, dots.Shape, dots.Radius = look.color, look.shape, vg.Points(3)
		p.Add(line, dots)
		p.Legend.Add(s.Name, line, dots)
		for _, xy := range points {
			if low == 0 || xy.Y < low {
				low = xy.Y
			}
			high = max(high, xy.Y)
		}
	}
	if p.X.Min == p.X.Max { // one size only
		p.X.Min, p.X.Max = p.X.Min/2, p.X.Max*2
	}
	if high > 10*low {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
		p.Y.Min, p.Y.Max = low/2, high*20 // room for the legend
	} else {
		p.Y.Min, p.Y.Max = 0, high*1.6
	}
	return drawn(p, g.file, 18*vg.Centimeter, 10*vg.Centimeter)
}
