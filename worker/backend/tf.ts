/**
 * The `tf` a user's module gets: everything of TensorFlow.js core and layers in one object, with the chained
 * tensor methods (`x.sub(y)`), as the umbrella package offers it. Whittle does not depend on that package
 * because it also brings the WebGL and CPU backends.
 */
import * as core from '@tensorflow/tfjs-core';
import * as layers from '@tensorflow/tfjs-layers';
import type {} from '@tensorflow/tfjs-core/dist/public/chained_ops/register_all_chained_ops.js';
import { registerChainedOps } from './chained-ops.ts';

export type Tf = Omit<typeof core, 'default'> & Omit<typeof layers, 'default'>;

registerChainedOps(core);

export const tf: Tf = { ...core, ...layers };
