// What Grafana's application sets up around its components: theme, field options, transformations, variables.
import {
  applyFieldOverrides, createTheme, FieldColorModeId, standardFieldConfigEditorRegistry, standardTransformers,
  standardTransformersRegistry, thresholdsOverrideProcessor,
} from '@grafana/data';

export const theme = createTheme({ colors: { mode: 'dark' } });
const minutes = Number(new URLSearchParams(location.search).get('minutes') || 8);
export const to = Date.now();
export const from = to - minutes * 60e3;
export const step = Math.max(2, Math.round((minutes * 60) / 300)); // seconds, about 300 points

const bound = { __rate_interval: '30s', datasource: 'prometheus', job: '.*', instance: '.*', route: '.*', model: '.*', tenant: '.*' };
export const withVariables = text =>
  text.replace(/\$\{(\w+)(?::\w+)?\}|\$(\w+)/g, (whole, braced, plain) => bound[braced || plain] ?? whole);

const same = value => value;
const option = (name, custom, process = same) => ({
  id: custom ? `custom.${name}` : name, path: name, isCustom: custom, name, process,
  editor: () => null, override: () => null, shouldApply: () => true, settings: {},
});
const PLAIN = ['unit', 'decimals', 'min', 'max', 'displayName', 'noValue', 'mappings', 'links', 'color', 'fieldMinMax'];
const CUSTOM = [
  'drawStyle', 'lineInterpolation', 'lineWidth', 'fillOpacity', 'gradientMode', 'showPoints', 'pointSize', 'stacking',
  'axisPlacement', 'axisLabel', 'axisSoftMin', 'axisSoftMax', 'scaleDistribution', 'hideFrom', 'thresholdsStyle',
  'lineStyle', 'spanNulls', 'barAlignment', 'cellOptions', 'align',
];
standardFieldConfigEditorRegistry.setInit(() => [
  ...PLAIN.map(name => option(name, false)),
  option('thresholds', false, thresholdsOverrideProcessor),
  ...CUSTOM.map(name => option(name, true)),
]);
standardTransformersRegistry.setInit(() =>
  [...new Map(Object.values(standardTransformers).map(one => [one.id, one])).values()].map(one => ({ id: one.id, name: one.name, transformation: one, editor: () => null }))
);

// Give the frames the panel's field options, as a panel does.
export function configured(frames, panel) {
  const fieldConfig = structuredClone(panel.fieldConfig ?? { defaults: {}, overrides: [] });
  fieldConfig.overrides ??= [];
  fieldConfig.defaults.custom = { drawStyle: 'line', axisPlacement: 'auto', ...fieldConfig.defaults.custom };
  const byThresholds = panel.type === 'stat' || panel.type === 'bargauge' || panel.type === 'table';
  fieldConfig.defaults.color ??= { mode: byThresholds ? FieldColorModeId.Thresholds : FieldColorModeId.PaletteClassic };
  return applyFieldOverrides({
    data: frames, fieldConfig, replaceVariables: withVariables, theme, timeZone: 'browser',
    fieldConfigRegistry: standardFieldConfigEditorRegistry,
  });
}
