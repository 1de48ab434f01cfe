import type { SparsityRule } from '../../config/types.ts';
import { element } from './element.ts';
import type { Granularity } from './granularity.ts';

/** A further granularity is one more file and one more line here. */
export const GRANULARITIES: Readonly<Record<SparsityRule['granularity'], Granularity>> = { element };
