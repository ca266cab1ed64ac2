package suite

import (
	"bytes"
	"fmt"
	"image/color"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/fairway-lb/fairway/bench/datapath"
	"github.com/fairway-lb/fairway/bench/scale"
	"github.com/fairway-lb/fairway/bench/stage"
	"github.com/fairway-lb/fairway/bench/stats"
)

// A graph is a figure over the number of Services, a line a subject.
type graph struct {
	file, title, unit string
	points            map[string]plotter.XYs // by subject
}

// graphs are those of the report, but for those without a single point.
func graphs(files map[string]File) []graph {
	connect := graph{"connect.svg", "Connecting to the last Service, times the direct connection", "times", map[string]plotter.XYs{}}
	first := graph{"first-sync.svg", "From the start of the proxy until all Services work", "s", map[string]plotter.XYs{}}
	change := graph{"change.svg", "From a change of one endpoint until packets follow", "ms", map[string]plotter.XYs{}}
	memory := graph{"memory.svg", "Resident memory of the proxy", "MB", map[string]plotter.XYs{}}
	for _, f := range files {
		if f.Data != nil && !f.Data.Options.V6 {
			connect.addDataPath(*f.Data)
		}
		if f.Scale == nil {
			continue
		}
		for _, s := range stage.Proxies {
			n := float64(f.Scale.Options.Services)
			first.add(s.Name, n, samplesOf(f.Scale.Samples, s.Name, func(s scale.Sample) []float64 { return positive(s.FirstSync.Seconds()) }))
			change.add(s.Name, n, samplesOf(f.Scale.Samples, s.Name, func(s scale.Sample) (out []float64) {
				for _, c := range s.Changes {
					out = append(out, c.Seconds()*1e3)
				}
				return out
			}))
			memory.add(s.Name, n, samplesOf(f.Scale.Samples, s.Name, func(s scale.Sample) []float64 {
				if s.Over != "" {
					return nil
				}
				return positive(float64(s.RSS) / 1e6)
			}))
		}
	}
	return slices.DeleteFunc([]graph{connect, first, change, memory}, func(g graph) bool { return len(g.points) == 0 })
}

func positive(x float64) []float64 {
	if x <= 0 {
		return nil
	}
	return []float64{x}
}

func samplesOf(samples []scale.Sample, subject string, f func(scale.Sample) []float64) (out []float64) {
	for _, s := range samples {
		if s.Subject == subject {
			out = append(out, f(s)...)
		}
	}
	return out
}

func (g *graph) addDataPath(r datapath.Result) {
	const path = "pod to the last Service"
	direct := r.Values(stage.Direct.Name, path, datapath.Connect50)
	for _, s := range stage.Proxies {
		if v := r.Values(s.Name, path, datapath.Connect50); len(v) > 0 && len(v) == len(direct) {
			g.add(s.Name, float64(r.Options.Services), []float64{stats.Ratio(v, direct).Value})
		}
	}
}

// add adds the median of samples, if there are any.
func (g *graph) add(subject string, n float64, samples []float64) {
	if len(samples) > 0 {
		g.points[subject] = append(g.points[subject], plotter.XY{X: n, Y: stats.Median(samples)})
	}
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

// svg draws the graph. Both axes are logarithmic where the values span more than a decade.
func (g graph) svg() ([]byte, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = g.title, "Services", g.unit
	p.Title.TextStyle.Font.Size = vg.Points(11)
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
	if high > 10*low {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
		p.Y.Min, p.Y.Max = low/2, high*20 // room for the legend
	} else {
		p.Y.Min, p.Y.Max = 0, high*1.5
	}
	c := vgsvg.New(18*vg.Centimeter, 10*vg.Centimeter)
	p.Draw(draw.Crop(draw.New(c), 0, -vg.Centimeter, vg.Millimeter, -vg.Millimeter)) // the last tick's number is wide
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return nil, fmt.Errorf("%s: %w", g.file, err)
	}
	return b.Bytes(), nil
}
