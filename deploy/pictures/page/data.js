// Prometheus's answers as the frames that Grafana's Prometheus data source would make of them.
import { FieldType, toDataFrame, transformDataFrame } from '@grafana/data';
import { firstValueFrom } from 'rxjs';
import { from, step, to, withVariables } from './grafana.js';

async function ask(path, given) {
  const answer = await (await fetch(`/prometheus/api/v1/${path}?${new URLSearchParams(given)}`)).json();
  if (answer.status !== 'success') throw new Error(answer.error);
  return answer.data;
}

const named = (target, labels) =>
  (target.legendFormat || '').replace(/\{\{\s*(\w+)\s*\}\}/g, (_, name) => labels[name] ?? '') || undefined;

const number = text => (text === 'NaN' ? null : Number(text));

function series(target, one) {
  const points = one.values ?? [one.value];
  return toDataFrame({
    refId: target.refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: points.map(([time]) => time * 1e3) },
      { name: 'Value', type: FieldType.number, values: points.map(([, value]) => number(value)), labels: one.metric, config: { displayNameFromDS: named(target, one.metric) } },
    ],
  });
}

function column(target, result) {
  const labels = [...new Set(result.flatMap(one => Object.keys(one.metric)))];
  return toDataFrame({
    refId: target.refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: result.map(() => to) },
      ...labels.map(label => ({ name: label, type: FieldType.string, values: result.map(one => one.metric[label]) })),
      { name: `Value #${target.refId}`, type: FieldType.number, values: result.map(one => number(one.value[1])) },
    ],
  });
}

async function answered(target) {
  const query = withVariables(target.expr);
  if (target.range) {
    const { result } = await ask('query_range', { query, start: from / 1e3, end: to / 1e3, step });
    return result.map(one => series(target, one));
  }
  const { result } = await ask('query', { query, time: to / 1e3 });
  return target.format === 'table' ? [column(target, result)] : result.map(one => series(target, one));
}

export async function framesOf(panel) {
  const frames = (await Promise.all(panel.targets.map(answered))).flat();
  return panel.transformations?.length ? firstValueFrom(transformDataFrame(panel.transformations, frames)) : frames;
}

export async function exemplarsOf(panel) {
  const targets = panel.targets.filter(target => target.exemplar && panel.type === 'timeseries');
  const told = await Promise.all(targets.map(target => ask('query_exemplars', { query: withVariables(target.expr), start: from / 1e3, end: to / 1e3 })));
  const points = told.flat().flatMap(one => one.exemplars).map(one => [one.timestamp * 1e3, Number(one.value)]);
  return [...new Map(points.map(point => [String(point), point])).values()];
}
