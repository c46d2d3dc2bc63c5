// A board on Grafana's grid: 24 columns, rows of 38 pixels.
import { useEffect, useState } from 'react';
import { dateTime, reduceField } from '@grafana/data';
import { BarGauge, BigValue, PanelChrome, Table, TimeSeries } from '@grafana/ui';
import { BarGaugeDisplayMode, BigValueColorMode, BigValueGraphMode, VizOrientation } from '@grafana/schema';
import { exemplarsOf, framesOf } from './data.js';
import { configured, from, theme, to } from './grafana.js';

const UNIT = 38;
const GAP = 8;
const COLUMNS = 24;

// Every exemplar is a trace; Grafana draws them as diamonds.
function drawExemplars(builder, points) {
  builder.addHook('draw', plot => {
    const { scale } = plot.series[1];
    const { left, top, width, height } = plot.bbox;
    plot.ctx.fillStyle = theme.visualization.getColorByName('light-blue');
    plot.ctx.globalAlpha = 0.7;
    for (const [time, value] of points) {
      const x = plot.valToPos(time, 'x', true);
      const y = Math.max(top, plot.valToPos(value, scale, true));
      if (x < left || x > left + width || y > top + height) continue;
      plot.ctx.beginPath();
      plot.ctx.moveTo(x, y - 3); plot.ctx.lineTo(x + 3, y); plot.ctx.lineTo(x, y + 3); plot.ctx.lineTo(x - 3, y);
      plot.ctx.fill();
    }
    plot.ctx.globalAlpha = 1;
  });
  return null;
}

const latest = field => reduceField({ field, reducers: ['lastNotNull'] }).lastNotNull;

function Stat({ frames, panel, width, height }) {
  const field = frames[0]?.fields[1];
  const value = field ? field.display(latest(field)) : { text: panel.fieldConfig.defaults.noValue, numeric: NaN };
  const sparkline = field && { y: field, x: frames[0].fields[0] };
  return <BigValue {...{ width, height, theme, value, sparkline }} colorMode={BigValueColorMode.Value} graphMode={BigValueGraphMode.Area} />;
}

function Bars({ frames, width, height }) {
  const each = Math.min(40, Math.floor(height / Math.max(1, frames.length)) - 4);
  return frames.map((frame, index) => {
    const field = frame.fields[1];
    const value = { ...field.display(latest(field)), title: field.config.displayNameFromDS };
    return (
      <div key={index} style={{ marginBottom: 4 }}>
        <BarGauge {...{ width, value, theme, height: each, field: field.config, display: field.display }} itemSpacing={4} lcdCellWidth={12}
          orientation={VizOrientation.Horizontal} displayMode={BarGaugeDisplayMode.Basic} showUnfilled
          text={{ titleSize: 13, valueSize: 14 }} alignmentFactors={{ title: 'retrieval.query', text: '100.0%' }} />
      </div>
    );
  });
}

function Body({ panel, frames, exemplars, width, height }) {
  if (!frames.length && panel.type !== 'stat') return <div style={{ padding: 20 }}>No data</div>;
  if (panel.type === 'stat') return <Stat {...{ frames, panel, width, height }} />;
  if (panel.type === 'bargauge') return <Bars {...{ frames, width, height }} />;
  if (panel.type === 'table') return <Table data={frames[0]} {...{ width, height }} />;
  const timeRange = { from: dateTime(from), to: dateTime(to), raw: { from: dateTime(from), to: dateTime(to) } };
  return (
    <TimeSeries {...{ frames, width, height, timeRange }} timeZone="browser" legend={panel.options.legend} options={panel.options}>
      {builder => drawExemplars(builder, exemplars)}
    </TimeSeries>
  );
}

function Panel({ panel, unit }) {
  const [shown, show] = useState(null);
  useEffect(() => {
    Promise.all([framesOf(panel), exemplarsOf(panel)])
      .then(([frames, exemplars]) => show({ frames: configured(frames, panel), exemplars }))
      .catch(error => show({ error }));
  }, []);
  const { x, y, w, h } = panel.gridPos;
  const width = w * unit - GAP;
  const height = h * UNIT - GAP;
  const state = shown?.error ? String(shown.error) : shown ? 'drawn' : 'waiting';
  return (
    <div data-panel={panel.title} data-state={state} style={{ position: 'absolute', left: x * unit + GAP / 2, top: y * UNIT + GAP / 2 }}>
      <PanelChrome title={panel.title} width={width} height={height}>
        {(innerWidth, innerHeight) => shown?.frames && <Body {...shown} panel={panel} width={innerWidth} height={innerHeight} />}
      </PanelChrome>
    </div>
  );
}

export function Board({ board }) {
  const unit = (window.innerWidth - GAP * 2) / COLUMNS;
  const bottom = Math.max(...board.panels.map(({ gridPos }) => gridPos.y + gridPos.h));
  return (
    <div style={{ padding: GAP }}>
      <h1 style={{ fontSize: 18, margin: '6px 4px 4px' }}>{board.title}</h1>
      <div style={{ position: 'relative', height: bottom * UNIT }}>
        {board.panels.map(panel =>
          panel.type === 'row' ? (
            <div key={panel.id} style={{ position: 'absolute', top: panel.gridPos.y * UNIT + 10, left: 6, fontSize: 15, fontWeight: 500 }}>{panel.title}</div>
          ) : (
            <Panel key={panel.id} panel={panel} unit={unit} />
          )
        )}
      </div>
    </div>
  );
}
