import type { GranularityConfig } from '../../config/types.ts';
import { block } from './block.ts';
import { element } from './element.ts';
import type { Granularity } from './granularity.ts';
import { nm } from './nm.ts';
import { filter, neuron } from './units.ts';

/** A further granularity is one more file and one more line here. */
export function granularityOf(config: GranularityConfig): Granularity {
  if (config === 'element') return element;
  if ('block' in config) return block(config.block);
  if ('nm' in config) return nm(config.nm);
  return 'neuron' in config ? neuron : filter;
}
