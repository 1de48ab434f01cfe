import type { RunFileDocument } from './schema.ts';
import type { Problem } from './source.ts';

/** What is wrong with the guard, as far as the facts tell. */
export function checkGuard(
  document: RunFileDocument,
  facts: { readonly trainExamples?: number; readonly testExamples?: number },
): Problem[] {
  const { guard, sparsity, training, consistency } = document;
  if (guard === undefined) return [];
  const problem = (message: string, key?: string): Problem => ({
    path: key === undefined ? ['guard'] : ['guard', key],
    message: `guard${key === undefined ? '' : `.${key}`} ${message}`,
  });
  const problems: Problem[] = [];
  if (sparsity.length === 0) problems.push(problem('has nothing to hold: add a rule to sparsity, or remove guard'));
  if (training.evaluateEvery === 0)
    problems.push(problem('needs evaluations during the run, and training.evaluateEvery is 0; set it, such as 500'));
  // An effective run file is read back without facts.
  if ((facts.trainExamples ?? 0) > 0 && facts.testExamples === 0)
    problems.push(problem('goes by evaluations, and the data has no test part; export `test`, or remove guard'));
  if (consistency.mode !== 'bsp')
    problems.push(
      problem(
        `decides by what was evaluated before each mask update, and consistency.mode is ${consistency.mode}; use mode: bsp`,
      ),
    );
  if (guard.action === 'restore') {
    const restoring = (message: string): Problem => problem(`restore ${message}`, 'action');
    if (document.rewind?.length)
      problems.push(restoring('and rewind both bring earlier weights back; use action: hold, or remove rewind'));
    if ('shrink' in document && document.shrink !== undefined)
      problems.push(
        restoring('puts back weights of their old shapes, which shrink changes; use action: hold, or remove shrink'),
      );
    if (
      sparsity.some(
        ({ criterion, regrowth }) => criterion === 'snip' || (regrowth !== 'none' && regrowth.initial === 'snip'),
      )
    )
      problems.push(
        restoring(
          'keeps the checkpoint of each mask update, and that of step 0 is cut before snip prunes; use action: hold',
        ),
      );
  }
  return problems;
}
