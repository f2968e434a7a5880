package grafana

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// board is one dashboard.
type board struct {
	file, uid, title string
	description      string
	refresh, from    string
	topics, groups   bool // whether there is a variable to choose them
	prices           []price
	rows             []row
}

// price is a variable with a number of dollars.
type price struct{ name, label, value, description string }

// row is a line across the dashboard with panels below; without title just the panels.
type row struct {
	title  string
	panels []panel
}

type kind int

const (
	graph kind = iota
	number
	list
)

// panel is one picture. Its about says what it shows, and what to do when it looks bad.
type panel struct {
	kind   kind
	title  string
	about  string
	unit   string
	counts string // of a graph whose unit is "short": what is counted
	width  uint32 // of 24
	height uint32 // 0: 8, of a number 4

	queries []query

	thresholds []float64 // where yellow begins, and red; one: where red begins
	below      bool      // less is worse: red is below the threshold
	stack      bool      // areas on each other, where their sum means something
	fromZero   bool
	upTo       float64 // top of the axis; 0: what fits
	alerts     []string
	columns    map[string]string // of a list: titles of labels, in place of their names
}

type query struct{ legend, expr string }

// runbooks is where the pages about alerts are; prometheus/alerts.yml links to the same ones.
const runbooks = "https://github.com/streamhouse/streamhouse/blob/main/docs/runbooks/"

var shortNames = strings.NewReplacer(
	"@broker", `job=~"$job", instance=~"$instance"`,
	"@job", `job=~"$job"`,
	"@topic", `topic=~"$topic"`,
	"@group", `group_id=~"$group_id"`,
	"@rate", "$__rate_interval",
)

// expand replaces the short names of a query, and line breaks that only its source has.
func expand(expr string) string {
	return strings.Join(strings.Fields(shortNames.Replace(expr)), " ")
}

var source = common.DataSourceRef{Type: new("prometheus"), Uid: new("${datasource}")}

// build makes Grafana's model of b.
func build(b board) (dashboard.Dashboard, error) {
	out := dashboard.NewDashboardBuilder(b.title).
		Uid(b.uid).
		Description(b.description).
		Tags([]string{"streamhouse"}).
		Editable().
		Tooltip(dashboard.DashboardCursorSyncCrosshair).
		Refresh(b.refresh).
		Time("now-"+b.from, "now").
		Timezone("browser").
		Annotation(alertMarks()).
		Link(dashboard.NewDashboardLinkBuilder("StreamHouse").
			Type(dashboard.DashboardLinkTypeDashboards).
			Tags([]string{"streamhouse"}).
			IncludeVars(true).
			KeepTime(true)).
		Variables(variables(b))
	id := uint32(0)
	for _, r := range b.rows {
		if r.title != "" {
			id++
			out.WithRow(dashboard.NewRowBuilder(r.title).Id(id))
		}
		for _, p := range r.panels {
			id++
			out.WithPanel(p.builder(id))
		}
	}
	d, err := out.Build()
	if err != nil {
		return d, fmt.Errorf("build dashboard %s: %w", b.file, err)
	}
	d.SchemaVersion = schemaVersion
	plain(&d)
	return d, nil
}

// schemaVersion is one that Grafana 11 and newer know: a newer Grafana brings a dashboard up to its own, an older one may refuse
// what is newer than itself.
const schemaVersion = 39

// plain takes out what the SDK sets unasked: that links and marks hide in a menu.
func plain(d *dashboard.Dashboard) {
	for i := range d.Links {
		d.Links[i].Placement = nil
	}
	for i := range d.Annotations.List {
		d.Annotations.List[i].Placement = nil
	}
	for _, p := range d.Panels {
		if p.Panel == nil {
			continue
		}
		for i := range p.Panel.Links {
			p.Panel.Links[i].Placement = nil
		}
	}
}

// alertMarks draws when alerts were firing into every graph.
func alertMarks() *dashboard.AnnotationQueryBuilder {
	return dashboard.NewAnnotationQueryBuilder().
		Name("Alerts").
		Datasource(source).
		Enable(true).
		IconColor("red").
		Expr(`ALERTS{alertstate="firing", component=~"consumer|producer|agent"}`).
		Step("30s").
		TitleFormat("{{alertname}}").
		TextFormat("{{instance}} {{topic}} {{group_id}}").
		TagKeys("severity,component")
}

func variables(b board) []cog.Builder[dashboard.VariableModel] {
	out := []cog.Builder[dashboard.VariableModel]{
		dashboard.NewDatasourceVariableBuilder("datasource").Label("Data source").Type("prometheus"),
		// A job is what separates the brokers from all else that Prometheus scrapes: so it has no ".*".
		choice("job", "Job", "label_values(streamhouse_build_info, job)", ""),
		choice("instance", "Broker", `label_values(streamhouse_build_info{job=~"$job"}, instance)`, ".*"),
	}
	if b.topics {
		// ".*" and not ".+": above a bound, topics are told together under topic="".
		out = append(out, choice("topic", "Topic", `label_values(streamhouse_agent_active_partitions{job=~"$job"}, topic)`, ".*").
			Regex("/^(?!__)/")) // not the internal ones
	}
	if b.groups {
		out = append(out, choice("group_id", "Group", `label_values(streamhouse_consumer_last_committed_offset{job=~"$job"}, group_id)`, ".*"))
	}
	for _, p := range b.prices {
		out = append(out, dashboard.NewTextBoxVariableBuilder(p.name).Label(p.label).Description(p.description).
			DefaultValue(dashboard.StringOrMap{String: new(p.value)}).
			Current(option(p.value, p.value)))
	}
	return out
}

// choice is a variable whose values Prometheus knows: some of them, or all.
func choice(name, label, query, all string) *dashboard.QueryVariableBuilder {
	v := dashboard.NewQueryVariableBuilder(name).
		Label(label).
		Datasource(source).
		Query(dashboard.StringOrMap{Map: map[string]any{"query": query, "refId": "Variable-" + name}}).
		Definition(query).
		Refresh(dashboard.VariableRefreshOnTimeRangeChanged).
		Sort(dashboard.VariableSortNaturalAsc).
		Multi(true).
		IncludeAll(true).
		Current(option("All", "$__all"))
	if all != "" {
		v.AllValue(all)
	}
	return v
}

func option(text, value string) dashboard.VariableOption {
	return dashboard.VariableOption{
		Text:  dashboard.StringOrArrayOfString{String: &text},
		Value: dashboard.StringOrArrayOfString{String: &value},
	}
}

func (p panel) builder(id uint32) cog.Builder[dashboard.Panel] {
	switch p.kind {
	case number:
		return p.number(id)
	case list:
		return p.list(id)
	case graph:
	}
	return p.graph(id)
}

func (p panel) links() []cog.Builder[dashboard.DashboardLink] {
	out := make([]cog.Builder[dashboard.DashboardLink], 0, len(p.alerts))
	for _, alert := range p.alerts {
		out = append(out, dashboard.NewDashboardLinkBuilder("Runbook: "+alert).
			Type(dashboard.DashboardLinkTypeLink).Url(runbooks+alert+".md").TargetBlank(true))
	}
	return out
}

func (p panel) targets() []cog.Builder[variants.Dataquery] {
	out := make([]cog.Builder[variants.Dataquery], 0, len(p.queries))
	for i, q := range p.queries {
		target := prometheus.NewDataqueryBuilder().
			Datasource(source).
			EditorMode(prometheus.QueryEditorModeCode).
			RefId(refID(i)).
			Expr(expand(q.expr)).
			LegendFormat(q.legend)
		switch p.kind {
		case list:
			target.Instant().Format(prometheus.PromQueryFormatTable)
		case number:
			target.Instant()
		case graph:
			target.Range()
		}
		out = append(out, target)
	}
	return out
}

// refID is A, B, … as Grafana names queries.
func refID(i int) string {
	if i < 26 {
		return string(rune('A' + i))
	}
	return "Q" + strconv.Itoa(i)
}

func (p panel) steps() *dashboard.ThresholdsConfigBuilder {
	colors := []string{"green", "yellow", "red"}
	if len(p.thresholds) == 1 {
		colors = []string{"green", "red"}
	}
	if p.below {
		colors = []string{"red", "green"}
	}
	steps := []dashboard.Threshold{{Color: colors[0]}}
	for i, at := range p.thresholds {
		steps = append(steps, dashboard.Threshold{Value: &at, Color: colors[i+1]})
	}
	return dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).Steps(steps)
}

func (p panel) graph(id uint32) cog.Builder[dashboard.Panel] {
	out := timeseries.NewPanelBuilder().Id(id).Title(p.title).Description(p.about).Datasource(source).
		Unit(p.unit).Span(p.width).Height(orDefault(p.height, 8)).
		Links(p.links()).Targets(p.targets()).
		LineWidth(1).FillOpacity(8).ShowPoints(common.VisibilityModeNever).
		Thresholds(p.steps()).
		Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(common.SortOrderDescending)).
		Legend(common.NewVizLegendOptionsBuilder().
			ShowLegend(true).
			DisplayMode(common.LegendDisplayModeTable).
			Placement(common.LegendPlacementBottom).
			Calcs([]string{"lastNotNull", "max"}))
	if len(p.thresholds) > 0 {
		out.ThresholdsStyle(common.NewGraphThresholdsStyleConfigBuilder().Mode(common.GraphThresholdsStyleModeDashed))
	}
	if p.stack {
		out.Stacking(common.NewStackingConfigBuilder().Mode(common.StackingModeNormal).Group("A")).FillOpacity(25)
	}
	if p.counts != "" {
		out.AxisLabel(p.counts)
	}
	if p.fromZero {
		out.Min(0)
	}
	if p.upTo > 0 {
		out.Max(p.upTo)
	}
	return out
}

func (p panel) number(id uint32) cog.Builder[dashboard.Panel] {
	color, text := common.BigValueColorModeNone, common.BigValueTextModeAuto
	if len(p.thresholds) > 0 {
		color = common.BigValueColorModeBackgroundSolid
	}
	if p.queries[0].legend != "" {
		text = common.BigValueTextModeName // what the number is, is in its labels
	}
	return stat.NewPanelBuilder().Id(id).Title(p.title).Description(p.about).Datasource(source).
		Unit(p.unit).Span(p.width).Height(orDefault(p.height, 4)).
		Links(p.links()).Targets(p.targets()).
		Thresholds(p.steps()).
		ColorMode(color).TextMode(text).GraphMode(common.BigValueGraphModeNone).
		ReduceOptions(common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"}))
}

func (p panel) list(id uint32) cog.Builder[dashboard.Panel] {
	return table.NewPanelBuilder().Id(id).Title(p.title).Description(p.about).Datasource(source).
		Unit(p.unit).Span(p.width).Height(orDefault(p.height, 8)).
		Links(p.links()).Targets(p.targets()).
		Thresholds(p.steps()).
		Footer(common.NewTableFooterOptionsBuilder().Show(false).Reducer([]string{"sum"})).
		WithTransformation(dashboard.DataTransformerConfig{Id: "organize", Options: map[string]any{
			"excludeByName": map[string]bool{"Time": true},
			"renameByName":  p.columns,
		}}).
		SortBy([]cog.Builder[common.TableSortByFieldState]{
			common.NewTableSortByFieldStateBuilder().DisplayName(p.columns["Value"]).Desc(true),
		})
}

func orDefault(n, otherwise uint32) uint32 {
	if n == 0 {
		return otherwise
	}
	return n
}
