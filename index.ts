/** The public interface of Whittle: start, continue and look at runs, and the pure functions of sparsity. */
export { launch, status, type LaunchOptions } from './deploy/launchers/run.ts';
export { resume, type ResumeOptions } from './deploy/launchers/resume.ts';
export type { RunHooks } from './deploy/launchers/execute.ts';
export type { LaunchedRun, Launcher, LaunchPlan, RoleExit, RoleLoss, RunEnd } from './deploy/launchers/launcher.ts';
export type { RunConfig, SparsityRule, SparsitySchedule } from './shared/config/types.ts';
export type {
  LayerResult,
  MemberStatus,
  RunFailure,
  RunResult,
  RunState,
  RunStatus,
  StepMetrics,
} from './shared/telemetry/run-status.ts';
export { ERROR_CODES, type ErrorCode, WhittleError } from './shared/errors.ts';
export { isUpdateStep, scheduleValue, sparsityAt, updateSteps } from './shared/sparsity/schedule.ts';
export { removedCount } from './shared/sparsity/allocation/removed-count.ts';
export { matchesGlob } from './shared/sparsity/glob.ts';
export { bitmapBytes, countBits, maskDigest } from './shared/sparsity/bitmap.ts';
export { pack, unpack } from './shared/sparsity/packing.ts';
export { TensorFile } from './shared/packed/tensor-file.ts';
export { densify, type PackedTensor, type PackedValues } from './shared/packed/packed-tensor.ts';
