/** Spectra of the Hessian, Gauss-Newton and Fisher matrices of networks exported to ONNX. */
export type { CallOptions, Progress } from "./call";
export {
  type ArraySource,
  type ArrayValues,
  type DataArray,
  type DataSet,
  type DataSource,
  type LoadDataOptions,
  loadData,
  type Normalize,
} from "./data/data";
export {
  AbortError,
  DataMismatchError,
  EigenscopeError,
  type ErrorKind,
  InternalError,
  MemoryBudgetError,
  ModelFormatError,
  NotConvergedError,
  OptionError,
  type UnsupportedNode,
  UnsupportedOperatorError,
} from "./errors";
export {
  type Apply,
  LinearOperator,
  type LinearOperatorOptions,
  linearOperator,
  type OperatorReport,
  type Restriction,
} from "./linear-operator";
export { type MagnitudeMaskOptions, magnitudeMask, type WeightTensor } from "./masks/magnitude";
export { Mask, type Segment } from "./masks/mask";
export type { Globs } from "./model/glob";
export type { Loss, LossName } from "./model/loss";
export {
  type LoadModelOptions,
  loadModel,
  type Model,
  type ModelValue,
  type Parameter,
  type StoredTensor,
} from "./model/model";
export type { Dtype, ElementType, Vectors } from "./native";
export {
  type EvaluateOptions,
  type FisherOptions,
  type ForwardOptions,
  fisher,
  forward,
  functionalHessian,
  type Gradient,
  ggn,
  gradient,
  hessian,
  loss,
  type OperatorOptions,
  type RunOptions,
} from "./operators";
export { Eigenpairs, type EigshOptions, eigsh } from "./spectra";
