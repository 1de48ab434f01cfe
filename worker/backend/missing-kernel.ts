import { WhittleError } from '../../shared/errors.ts';

/** TensorFlow.js's message for a missing kernel speaks to its own developers. */
export function explainMissingKernel(reason: unknown): unknown {
  const message = reason instanceof Error ? reason.message : '';
  const match = /Kernel '(\w+)' not registered for backend '(\w+)'/.exec(message);
  if (match === null) return reason;
  return new WhittleError(
    'UNSUPPORTED',
    `the ${match[2]} backend has no kernel ${match[1]}, which the model or its gradient needs: use another layer, or ` +
      'set cluster.backend to tensorflow',
    { cause: reason, data: { kernel: match[1], backend: match[2] } },
  );
}
