import type { QuantizationConfig } from './quantization.ts';
import { checkGlob, numSteps, type RuleFacts, toStep } from './resolve-sparsity.ts';
import type { RunFileDocument } from './schema.ts';
import type { Problem } from './source.ts';

/** What is wrong with the key `quantization`, as far as the facts tell. */
export function checkQuantization(document: RunFileDocument, facts: RuleFacts): Problem[] {
  const { quantization } = document;
  if (quantization === undefined) return [];
  const { weights, activations, match, beginStep } = quantization;
  const problems: Problem[] = [];
  if (weights === null && activations === null) {
    problems.push({
      path: ['quantization'],
      message: 'quantization has neither weights nor activations to quantize; give one of them, or remove the key',
    });
  }
  if (weights === null && match !== null) {
    problems.push({
      path: ['quantization', 'match'],
      message: `quantization.match ${JSON.stringify(match)} names weights, and quantization.weights is null; remove one`,
    });
  } else if (match !== null) {
    problems.push(...checkGlob(match, ['quantization', 'match'], facts.parameterNames));
  } else if (weights !== null && facts.prunableNames?.length === 0) {
    problems.push({
      path: ['quantization'],
      message:
        'quantization has no match and the model has no kernels of dense or convolution layers; name parameters with match',
    });
  }
  const begin = toStep(beginStep, document, facts.trainExamples);
  const steps = numSteps(document, facts.trainExamples);
  if (begin !== undefined && steps !== undefined && begin > steps) {
    const told = typeof beginStep === 'number' ? '' : ` (${beginStep})`;
    problems.push({
      path: ['quantization', 'beginStep'],
      message: `quantization.beginStep ${begin}${told} is beyond the run, which has ${steps} steps; lower it or train longer`,
    });
  }
  return problems;
}

/** The key of the effective file; absent where the run file has none. All steps must be known: check first. */
export function resolveQuantization(
  document: RunFileDocument,
  trainExamples: number,
): { readonly quantization?: QuantizationConfig } {
  const { quantization } = document;
  if (quantization === undefined) return {};
  return {
    quantization: { ...quantization, beginStep: toStep(quantization.beginStep, document, trainExamples) ?? 0 },
  };
}
