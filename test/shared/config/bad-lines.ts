/** Run files with one bad line, for run-file.test.ts. */

/** One line of VALID replaced, and what the error must say. */
interface BadLine {
  readonly name: string;
  readonly line: number;
  readonly text: string;
  readonly says: readonly string[];
}

export const TRAINING = '  optimizer: { kind: adam, learningRate: 0.001 }';
export const schedule = (inner: string): string => `    schedule: { kind: polynomial, ${inner} }`;
const data = (inner: string): string => `data: { ${inner} }`;

export const BAD_LINES: readonly BadLine[] = [
  // Typing errors in keys and words.
  {
    name: 'unknown top-level key',
    line: 1,
    text: 'model: lenet-300-100\nsead: 3',
    says: ['run.yaml:2:1', 'unknown key "sead"', 'did you mean seed?'],
  },
  {
    name: 'unknown nested key',
    line: 2,
    text: data('source: mnist, batchsize: 100'),
    says: ['run.yaml:2:24', '"batchsize" in data', 'did you mean batchSize?'],
  },
  {
    name: 'snake case',
    line: 8,
    text: schedule('final_sparsity: 0.9'),
    says: ['run.yaml:8:35', 'did you mean finalSparsity?'],
  },
  {
    name: 'the name of another trainer',
    line: 5,
    text: '  optimizer: { kind: adam, lr: 0.1 }',
    says: ['run.yaml:5:28', 'unknown key "lr"', 'did you mean learningRate?'],
  },
  {
    name: 'a key of another kind',
    line: 5,
    text: '  optimizer: { kind: sgd, beta1: 0.9 }',
    says: ['unknown key "beta1" in training.optimizer', 'known keys: kind, learningRate, momentum, nesterov'],
  },
  {
    name: 'misspelt criterion',
    line: 8,
    text: '    criterion: magnitud\n' + schedule('finalSparsity: 0.9'),
    says: ['run.yaml:8:16', 'is "magnitud"', 'did you mean magnitude?'],
  },
  {
    name: 'misspelt optimizer',
    line: 5,
    text: '  optimizer: { kind: adma }',
    says: ['run.yaml:5:22', 'is "adma"', 'did you mean adam?'],
  },
  {
    name: 'misspelt data set',
    line: 2,
    text: data('source: mnst, batchSize: 1'),
    says: ['run.yaml:2:17', 'is "mnst"', 'did you mean mnist?'],
  },
  {
    name: 'misspelt schedule kind',
    line: 8,
    text: '    schedule: { kind: polinomial, finalSparsity: 0.9 }',
    says: ['run.yaml:8:23', 'is "polinomial"', 'did you mean polynomial?'],
  },
  {
    name: 'missing kind',
    line: 8,
    text: '    schedule: { finalSparsity: 0.9 }',
    says: ['run.yaml:8:15', 'sparsity.0.schedule.kind is missing', 'polynomial, constant'],
  },
  {
    name: 'wire format',
    line: 1,
    text: 'model: lenet-5\nwire: { push: fp16 }',
    says: ['run.yaml:2:15', 'is "fp16"', 'did you mean float16?'],
  },
  {
    name: 'backend',
    line: 1,
    text: 'model: lenet-5\ncluster: { backend: gpu }',
    says: ['run.yaml:2:21', 'is "gpu"', 'did you mean tensorflow-gpu?'],
  },
  // Types in plain words.
  {
    name: 'word for a number',
    line: 2,
    text: data('source: mnist, batchSize: two'),
    says: ['run.yaml:2:35', 'data.batchSize must be a whole number >= 1, is "two"'],
  },
  {
    name: 'fraction for a whole number',
    line: 4,
    text: '  steps: 2.5',
    says: ['run.yaml:4:10', 'training.steps must be a whole number >= 1, is 2.5'],
  },
  { name: 'zero steps', line: 4, text: '  steps: 0', says: ['must be a whole number >= 1, is 0'] },
  {
    name: 'too many steps',
    line: 4,
    text: '  steps: 99999999999',
    says: ['must be a whole number from 1 to 2147483647, is 99999999999'],
  },
  { name: 'zero epochs', line: 4, text: '  epochs: 0', says: ['training.epochs must be a number > 0', 'is 0'] },
  {
    name: 'mapping for a list',
    line: 6,
    text: 'sparsity: {}\nx:',
    says: ['run.yaml:6:11', 'sparsity must be a list of rules, each starting with a dash', 'is {}'],
  },
  {
    name: 'list for a mapping',
    line: 2,
    text: 'data: [mnist]',
    says: ['run.yaml:2:7', 'data must be a mapping with the keys source, batchSize, order, is ["mnist"]'],
  },
  {
    name: 'empty value',
    line: 2,
    text: data('source: mnist, batchSize: 100') + '\ncheckpoint:',
    says: ['run.yaml:3:1', 'checkpoint must be a mapping', 'is empty'],
  },
  {
    name: 'word for a flag',
    line: 5,
    text: '  optimizer: { kind: sgd, momentum: 0.9, nesterov: maybe }',
    says: ['must be true or false, is "maybe"'],
  },
  { name: 'missing key', line: 1, text: 'seed: 1', says: ['run.yaml:1:1', 'model is missing', 'lenet-300-100'] },
  {
    name: 'seed out of range',
    line: 1,
    text: 'model: lenet-5\nseed: -1',
    says: ['run.yaml:2:7', 'seed must be a whole number >= 0, is -1'],
  },
  {
    name: 'name with a slash',
    line: 1,
    text: 'model: lenet-5\nname: a/b',
    says: ['run.yaml:2:7', 'letters, digits', 'is "a/b"'],
  },
  {
    name: 'csv key',
    line: 2,
    text: data('source: { csv: { trian: a.csv } }, batchSize: 1'),
    says: ['unknown key "trian"', 'did you mean train?'],
  },
  {
    name: 'csv label',
    line: 2,
    text: data('source: { csv: { train: a.csv, label: -2 } }, batchSize: 1'),
    says: ['must be a column name or its index', 'is -2'],
  },
  {
    name: 'unknown source',
    line: 2,
    text: data('source: { zip: a }, batchSize: 1'),
    says: ['run.yaml:2:17', '{idx: DIR}', 'is {"zip":"a"}'],
  },
  // Ranges.
  {
    name: 'sparsity in percent',
    line: 8,
    text: schedule('finalSparsity: 95'),
    says: ['run.yaml:8:50', 'finalSparsity must be a number >= 0 and < 1, is 95', '0.95 is 95 %'],
  },
  { name: 'sparsity 1', line: 8, text: schedule('finalSparsity: 1'), says: ['must be a number >= 0 and < 1, is 1'] },
  {
    name: 'negative sparsity',
    line: 8,
    text: schedule('initialSparsity: -0.1, finalSparsity: 0.9'),
    says: ['initialSparsity must be a number >= 0 and < 1, is -0.1'],
  },
  {
    name: 'frequency 0',
    line: 8,
    text: schedule('finalSparsity: 0.9, frequency: 0'),
    says: ['run.yaml:8:66', 'frequency must be a whole number >= 1, is 0'],
  },
  {
    name: 'percentage',
    line: 8,
    text: schedule('finalSparsity: 0.9, beginStep: 30%%'),
    says: ['such as 30%', 'is "30%%"'],
  },
  {
    name: 'learning rate 0',
    line: 5,
    text: '  optimizer: { kind: adam, learningRate: 0 }',
    says: ['run.yaml:5:42', 'learningRate must be a number > 0, is 0'],
  },
  {
    name: 'infinite learning rate',
    line: 5,
    text: '  optimizer: { kind: adam, learningRate: .inf }',
    says: ['learningRate must be a number > 0'],
  },
  {
    name: 'beta1',
    line: 5,
    text: '  optimizer: { kind: adam, beta1: 1 }',
    says: ['beta1 must be a number >= 0 and < 1, is 1'],
  },
  {
    name: 'epsilon',
    line: 5,
    text: '  optimizer: { kind: adam, epsilon: 0 }',
    says: ['epsilon must be a number > 0, is 0'],
  },
  {
    name: 'weight decay',
    line: 5,
    text: '  decay: { weightDecay: -1 }',
    says: ['weightDecay must be a number >= 0, is -1'],
  },
  { name: 'clip norm', line: 5, text: '  clipNorm: 0', says: ['training.clipNorm must be a number > 0, is 0'] },
  {
    name: 'step schedule without its length',
    line: 5,
    text: '  learningRateSchedule: { kind: step }',
    says: ['run.yaml:5:25', 'learningRateSchedule.every is missing; it must be a whole number >= 1'],
  },
  {
    name: 'keep 0',
    line: 1,
    text: 'model: lenet-5\ncheckpoint: { keep: 0 }',
    says: ['checkpoint.keep must be a whole number >= 1, is 0'],
  },
  // Relations.
  {
    name: 'neither steps nor epochs',
    line: 4,
    text: '  evaluateEvery: 5',
    says: ['run.yaml:3:1', 'steps, such as 1000, or epochs'],
  },
  {
    name: 'steps and epochs',
    line: 4,
    text: '  steps: 10\n  epochs: 3',
    says: ['run.yaml:5:11', 'steps (10) and epochs (3)', 'remove one'],
  },
  {
    name: 'begin after end',
    line: 8,
    text: schedule('finalSparsity: 0.9, beginStep: 800, endStep: 700'),
    says: ['run.yaml:8:66', 'beginStep 800 must be <= endStep 700'],
  },
  {
    name: 'begin after the default end',
    line: 8,
    text: schedule('finalSparsity: 0.9, beginStep: 80%'),
    says: ['beginStep 800 (80%) must be <= endStep 750 (75%)'],
  },
  {
    name: 'end beyond the run',
    line: 8,
    text: schedule('finalSparsity: 0.9, endStep: 1001'),
    says: ['run.yaml:8:64', 'endStep 1001 is beyond the run, which has 1000 steps'],
  },
  {
    name: 'decreasing schedule',
    line: 8,
    text: schedule('initialSparsity: 0.9, finalSparsity: 0.5'),
    says: ['run.yaml:8:72', 'from initialSparsity 0.9 to finalSparsity 0.5', 'regrowth: none', 'make finalSparsity >='],
  },
  {
    name: 'more slices than examples',
    line: 1,
    text: 'model: lenet-5\ncluster: { slices: 101 }',
    says: ['run.yaml:2:20', 'cluster.slices 101 must be <= data.batchSize 100'],
  },
  {
    name: 'more workers than examples',
    line: 1,
    text: 'model: lenet-5\ncluster: { workers: 101 }',
    says: ['cluster.workers 101', 'must be <= data.batchSize 100'],
  },
  {
    name: 'Nesterov without momentum',
    line: 5,
    text: '  optimizer: { kind: sgd, nesterov: true }',
    says: ['run.yaml:5:37', 'nesterov needs momentum > 0'],
  },
  // What later versions will do.
  {
    name: 'ssp without a bound',
    line: 1,
    text: 'model: lenet-5\nconsistency: { mode: ssp }',
    says: ['run.yaml:2:22', 'consistency.mode ssp needs staleness >= 1'],
  },
  {
    name: 'a bound without ssp',
    line: 1,
    text: 'model: lenet-5\nconsistency: { mode: asp, staleness: 2 }',
    says: ['consistency.staleness 2 is for mode ssp, and mode is asp'],
  },
  {
    name: 'int8 pulls',
    line: 1,
    text: 'model: lenet-5\nwire: { push: int8, pull: int8 }',
    says: ['wire.pull: "int8" is not available in this version', 'float16'],
  },
  {
    name: 'replication',
    line: 1,
    text: 'model: lenet-5\ncluster: { replication: 1 }',
    says: ['run.yaml:2:25', 'cluster.replication', 'not available in this version; available: 0'],
  },
  {
    name: 'as many backup workers as workers',
    line: 1,
    text: 'model: lenet-5\nconsistency: { backupWorkers: 1 }',
    says: ['consistency.backupWorkers 1 must be less than cluster.workers 1'],
  },
  {
    name: 'a range of workers the wrong way round',
    line: 1,
    text: 'model: lenet-5\ncluster: { workers: 8:2 }',
    says: ['run.yaml:2:21', '"8:2"', 'must be a whole number from 1 to 1024, or a range such as 2:8'],
  },
  {
    name: 'mixed backends',
    line: 1,
    text: 'model: lenet-5\nmixedBackends: true',
    says: ['run.yaml:2:1', 'mixedBackends is not available in this version'],
  },
  // YAML.
  {
    name: 'duplicate key',
    line: 4,
    text: '  steps: 10\n  steps: 20',
    says: ['run.yaml:5:3', 'duplicate key "steps"', 'remove one'],
  },
  {
    name: 'syntax',
    line: 2,
    text: 'data: { source: mnist',
    says: ['run.yaml:3:1', 'Flow map in block collection must be sufficiently indented and end with a }'],
  },
  { name: 'tab', line: 4, text: '\tsteps: 10', says: ['run.yaml:4:1', 'Tabs are not allowed'] },
  { name: 'unknown tag', line: 1, text: 'model: !!js/function "f"', says: ['run.yaml:1:8', 'Unresolved tag'] },
];
