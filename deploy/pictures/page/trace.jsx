// One trace as a waterfall: what Jaeger shows, drawn from the spans that a collector received.
import { useEffect, useState } from 'react';
import { theme } from './grafana.js';

const TOLD = ['forebay.outcome', 'forebay.budget_ms', 'forebay.request.outcome', 'forebay.time_to_first_token_ms', 'forebay.hits', 'forebay.resource', 'gen_ai.usage.output_tokens', 'gen_ai.tool.name'];
const COLOURS = { server: 'green', internal: 'blue', client: 'orange' };
const LEFT = 660;

function depth(span, spans) {
  const parent = spans.find(one => one.span_id === span.parent);
  return parent ? 1 + depth(parent, spans) : 0;
}

// Parents before their children, and these in the order in which they began.
function ordered(spans, parent = undefined) {
  const own = spans.filter(span => (parent ? span.parent === parent.span_id : !spans.some(one => one.span_id === span.parent)));
  return own.flatMap(span => [span, ...ordered(spans, span)]);
}

function Line({ span, spans, total, width }) {
  const colour = theme.visualization.getColorByName(span.status === 2 ? 'red' : COLOURS[span.kind]);
  const left = LEFT + (span.start / total) * width;
  const long = Math.max(3, ((span.end - span.start) / total) * width);
  const facts = TOLD.filter(name => name in span.attributes).map(name => `${name.replace(/^(forebay|gen_ai)\./, '')}=${span.attributes[name]}`);
  return (
    <div style={{ position: 'relative', height: 26, borderTop: `1px solid ${theme.colors.border.weak}` }}>
      <span style={{ position: 'absolute', left: 8 + depth(span, spans) * 18, top: 4, whiteSpace: 'nowrap' }}>
        {span.name} <span style={{ color: theme.colors.text.secondary, fontSize: 11 }}>{facts.join('  ')}</span>
      </span>
      <span style={{ position: 'absolute', left, top: 6, width: long, height: 13, background: colour, borderRadius: 2 }} />
      <span style={{ position: 'absolute', left: left + long + 6, top: 4, fontSize: 12, color: theme.colors.text.secondary }}>{(span.end - span.start).toFixed(1)} ms</span>
    </div>
  );
}

export function Trace() {
  const [spans, show] = useState(null);
  useEffect(() => void fetch('/trace.json').then(answer => answer.json()).then(show), []);
  if (!spans) return null;
  const total = Math.max(...spans.map(span => span.end));
  const width = window.innerWidth - LEFT - 90;
  return (
    <div data-panel="trace" data-state="drawn" style={{ padding: '8px 0 12px' }}>
      <h1 style={{ fontSize: 18, margin: '6px 8px 10px' }}>
        Trace {spans[0].trace_id.slice(0, 8)}: {spans.length} spans, {total.toFixed(0)} ms
      </h1>
      {ordered(spans).map(span => <Line key={span.span_id} {...{ span, spans, total, width }} />)}
    </div>
  );
}
