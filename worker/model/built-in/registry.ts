/** The built-in models by the name a run file gives them. A new one is a file beside this and a line here. */
import type { BuiltIn } from './built-in.ts';
import { lenet300100 } from './lenet-300-100.ts';
import { lenet5 } from './lenet-5.ts';
import { logisticRegression } from './logistic-regression.ts';

export const BUILT_IN_MODELS: Readonly<Record<string, BuiltIn>> = {
  'lenet-300-100': lenet300100,
  'lenet-5': lenet5,
  'logistic-regression': logisticRegression,
};
