import type { LayerResult } from '../../shared/telemetry/run-status.ts';
import { formatBytes, formatCount, formatPercent } from './quantities.ts';
import { formatTable, type Column } from './table.ts';

const number = (title: string): Column => ({ title, align: 'right' });

/**
 * What the mask leaves of each layer, and in all. Results of earlier versions lack units and bytes; churn has a column
 * where an earlier checkpoint tells it.
 */
export function formatLayers(layers: readonly LayerResult[]): string {
  const total = (key: 'size' | 'left' | 'survivors' | 'zeroSurvivors' | 'bytes'): number =>
    layers.reduce((sum, layer) => sum + (layer[key] ?? 0), 0);
  const since = layers.find(({ churn }) => churn != null)?.churn?.since;
  const churned = layers.reduce((sum, { churn }) => sum + (churn == null ? 0 : churn.died + churn.regrown), 0);
  const isShrunk = total('left') > 0;
  const columns = [
    { title: 'parameter' },
    ...['size', 'survivors', 'density', 'zero survivors', 'dead units', 'bytes'].map(number),
    ...(isShrunk ? [number('left the model')] : []),
    ...(since === undefined ? [] : [number(`churn since ${since}`)]),
  ];
  const rows = layers.map((layer) => [
    ...countsOf(layer.name, layer.size, layer.survivors, layer.zeroSurvivors),
    formatUnits(layer),
    (layer.bytes as number | undefined) === undefined ? undefined : formatBytes(layer.bytes),
    ...(isShrunk ? [formatCount(layer.left ?? 0)] : []),
    formatChurn(layer.churn),
  ]);
  const sums = [
    ...countsOf('total', total('size'), total('survivors'), total('zeroSurvivors')),
    '',
    formatBytes(total('bytes')),
    ...(isShrunk ? [formatCount(total('left'))] : []),
    formatCount(churned),
  ];
  return formatTable(columns, [...rows, sums]);
}

function countsOf(name: string, size: number, survivors: number, zeroSurvivors: number): string[] {
  const density = formatPercent(size === 0 ? 1 : survivors / size);
  return [name, formatCount(size), formatCount(survivors), density, formatCount(zeroSurvivors)];
}

/** Of a vector a dead unit is a dead element, which is counted already. */
function formatUnits({ units, deadUnits, size }: LayerResult): string | undefined {
  if ((units as number | undefined) === undefined || units === size) return undefined;
  return `${formatCount(deadUnits)} of ${formatCount(units)}`;
}

/** `-12 +3` */
function formatChurn(churn: LayerResult['churn'] | undefined): string | undefined {
  if (churn == null) return undefined;
  const { died, regrown } = churn;
  const parts = [...(died > 0 ? [`-${formatCount(died)}`] : []), ...(regrown > 0 ? [`+${formatCount(regrown)}`] : [])];
  return parts.length === 0 ? '0' : parts.join(' ');
}
