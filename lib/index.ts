/** Spectra of the Hessian, Gauss-Newton and Fisher matrices of networks exported to ONNX. */
export {
  type AlignedGroup,
  Alignment,
  type AlignOptions,
  align,
  type BeforeAfter,
} from "./align/align";
export {
  type AlignmentBarriers,
  alignmentBarriers,
  type Barrier,
  type BarrierLine,
  type BarrierOptions,
  type LayerBarrier,
} from "./align/barriers";
export { permute } from "./align/network";
export { type AlignedSpectra, type AlignedSpectraOptions, alignedSpectra } from "./align/spectra";
export {
  type Anisotropy,
  type AnisotropyOptions,
  anisotropy,
  type EstimatedAnisotropy,
  type ExactAnisotropy,
  type GroupAnisotropy,
  type GroupAnisotropyOptions,
} from "./anisotropy/anisotropy";
export {
  type MarchenkoPastur,
  marchenkoPastur,
  marchenkoPasturVariance,
  type OutlierOptions,
  type Outliers,
  outliers,
} from "./anisotropy/bulk";
export type { EstimatedMeasures, EstimateOptions, Uncertain } from "./anisotropy/estimated";
export { type ExactMeasures, type MeasureOptions, spectrumMeasures } from "./anisotropy/exact";
export {
  type Decay,
  type DecayFit,
  decay,
  type IndexWindow,
  powerLawTail,
  type TailFit,
  type TailOptions,
} from "./anisotropy/fits";
export type { Spectrum } from "./anisotropy/magnitudes";
export {
  conditionNumber,
  countAboveShare,
  effectiveDimension,
  effectiveRank,
  gini,
  intrinsicDimension,
  normalizedEntropy,
  participationRatio,
  stableRank,
  stableRankOfRoot,
  topMass,
} from "./anisotropy/measures";
export type { CallOptions, Progress } from "./call";
export {
  type CheckpointFile,
  listCheckpoints,
  loadCheckpoint,
  type SaveCheckpointOptions,
  saveCheckpoint,
} from "./checkpoints";
export { type ClassDecomposition, classDecomposition, gradientCovariance } from "./classes";
export {
  type ComparedCell,
  type ComparedColumn,
  type ComparedOperator,
  type ComparedRow,
  type ComparedSpectrum,
  type CompareOptions,
  type Comparison,
  compare,
  type NamedModel,
} from "./compare";
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
export { type SelectOptions, samplesByClass, selectSamples } from "./data/select";
export {
  matrixProduct,
  orthonormalBasis,
  type SingularVectors,
  type SpanBasis,
  type SymmetricEigen,
  singularValues,
  singularVectors,
  symmetricEigen,
  symmetricEigenvalues,
} from "./dense";
export {
  type ProbeOptions,
  type SampledShare,
  SpectralDensity,
  type SpectralDensityOptions,
  spectralDensity,
} from "./density";
export type { AxisName } from "./density/axis";
export type { Estimate, Sample } from "./density/estimate";
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
  type Evaluation,
  type Evaluator,
  type EvaluatorOptions,
  evaluator,
} from "./evaluator";
export {
  type BlockChoice,
  type BlockDiagonalOptions,
  blockDiagonal,
  blockDiagonalOperator,
  type DenseBlock,
  type ExactDiagonal,
  type ExactSpectrum,
  type ExactSpectrumOptions,
  exactDiagonal,
  exactSpectrum,
} from "./exact";
export type { Axis, Coordinates, Figure, Heat, Series } from "./figures/figure";
export { figureToSvg } from "./figures/svg";
export { figureToVega } from "./figures/vega";
export {
  type FunctionName,
  type FunctionProductOptions,
  type FunctionProductResult,
  functionProduct,
  type LogDeterminantOptions,
  logDeterminant,
  type SpectralFunction,
  type TraceFunctionOptions,
  type TraceOfFunction,
  traceFunction,
} from "./functions";
export {
  type DoubleDescent,
  type DoubleDescentOptions,
  doubleDescent,
  type LeastSquaresOptions,
  type NetworkSweepOptions,
  type RandomFeatureOptions,
  type Repeated,
  type SweepMeasure,
  type SweepPoint,
} from "./generalization/double-descent";
export {
  type Generalization,
  type GeneralizationOptions,
  generalization,
  type SetQuantities,
} from "./generalization/generalization";
export {
  type Influence,
  type InfluenceOptions,
  influence,
  type LeaveOneOut,
  type LeaveOneOutOptions,
  type LeftOut,
  leaveOneOut,
} from "./generalization/influence";
export {
  bernoulliKl,
  gaussianKl,
  inverseBernoulliKl,
  type PacBayesTerms,
  pacBayesBound,
} from "./generalization/kl";
export {
  monteCarloBound,
  type PacBayesCandidate,
  type PacBayesOptions,
  type PacBayesResult,
  pacBayes,
} from "./generalization/pac-bayes";
export {
  type CurvatureName,
  type CurvatureQuantities,
  curvatureQuantities,
  type GradientTrace,
  type QuantityOptions,
} from "./generalization/quantities";
export {
  type BallSharpness,
  type FisherRaoNorm,
  type ScaledSharpness,
  type Scaling,
  type Sharpness,
  type SharpnessOptions,
  sharpness,
} from "./generalization/sharpness";
export { type ShiftOptions, shiftedData } from "./generalization/shift";
export type { GroupBy } from "./groups";
export {
  type Gram,
  type GramOptions,
  Jacobian,
  jacobian,
  ntk,
  type PerSampleGradients,
  type PerSampleOptions,
  perSampleGradients,
} from "./jacobian";
export { type KfacOptions, kfac } from "./kfac";
export {
  type Checkpoint,
  type DirectionToOptions,
  directionTo,
  parameterVector,
  type RandomDirectionOptions,
  randomDirection,
} from "./landscape/directions";
export {
  type Interpolation,
  interpolate,
  type LandscapeOptions,
  type LandscapeReport,
  type LineQuadratic,
  type LossLine,
  type LossPlane,
  lossLine,
  lossPlane,
  type PlaneQuadratic,
} from "./landscape/landscape";
export {
  type Apply,
  LinearOperator,
  type LinearOperatorOptions,
  linearOperator,
  type OperatorReport,
  type Restriction,
} from "./linear-operator";
export { type MaskIouOptions, type MaskOverlaps, maskIoU, type Overlap } from "./masks/compare";
export { CRITERIA, type Criterion } from "./masks/criteria";
export { loadMask, saveMask } from "./masks/files";
export { type KeepOptions, keepLargest } from "./masks/keep";
export { type MagnitudeMaskOptions, magnitudeMask, type WeightTensor } from "./masks/magnitude";
export { type MaskOptions, mask, masks, type ScoreOptions, weightScores } from "./masks/make";
export { Mask, type MaskLayer, type Segment } from "./masks/mask";
export {
  type CurvePoint,
  type MaskedOptions,
  maskedParameters,
  type SparsityCurveOptions,
  type SparsityCurves,
  type Spread,
  sparsityCurves,
} from "./masks/worth";
export type { BindValue, BoundInput, NestedNumbers } from "./model/bind";
export { type ActivationName, type MlpOptions, mlp } from "./model/build";
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
export type { ModelModes, ModeOptions } from "./model/modes";
export {
  fromStateDict,
  type StateDictMatch,
  type StateDictReport,
  type StateDictRule,
} from "./model/state-dict";
export type { ShapedTensor } from "./model/units";
export { type WriteModelOptions, writeModel } from "./model/write";
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
export {
  type CountedRank,
  type CountOptions,
  type NumericalRank,
  numericalRank,
  type OperatorRank,
  type OperatorRankOptions,
  type RankOptions,
} from "./rank/numerical";
export {
  type MeasuredRank,
  type RankCase,
  type RankParts,
  type RankPartsOptions,
  type RankSweepRow,
  rankParts,
  rankSweep,
} from "./rank/parts";
export {
  type HessianPart,
  type PredictedRank,
  type RankCondition,
  type RankPrediction,
  type RankPredictionOptions,
  rankPrediction,
} from "./rank/predict";
export {
  type Redundancy,
  type RedundancyOptions,
  type RedundancySource,
  redundancy,
} from "./rank/redundancy";
export type { KernelSource, SourceKind } from "./rank/sources";
export {
  type InverseOperatorOptions,
  inverse,
  type Solution,
  type SolveOptions,
  type SystemOptions,
  solve,
} from "./solve";
export {
  type EigenInterval,
  Eigenpairs,
  type EigshOptions,
  eigsh,
  type IntervalCount,
  type MissedStatement,
} from "./spectra";
export {
  type BlockNumbers,
  type BlockParts,
  type InverseOptions,
  type LogDeterminant,
  type StructuredBlock,
  StructuredOperator,
  type StructuredSpectrum,
  structuredOperator,
} from "./structured";
export {
  type ConditionalCurvature,
  type ConditionalOperatorOptions,
  type ConditionalOptions,
  conditionalCurvature,
  conditionalOperator,
  type PartCurvature,
} from "./subnetworks/conditional";
export {
  type MaskedCurvature,
  type MaskedCurvatureOptions,
  type MaskedTensor,
  type MaskedVector,
  maskedCurvature,
  type PruningCost,
} from "./subnetworks/curvature";
export {
  breakingFigure,
  correlationFigure,
  linkFigure,
  maskedSpectraFigure,
} from "./subnetworks/figures";
export {
  type Link,
  type LinkColumn,
  type LinkCorrelation,
  type LinkFamily,
  type LinkOptions,
  type LinkRow,
  type LinkSubject,
  subnetworkLink,
} from "./subnetworks/link";
export {
  adjustedP,
  type Correction,
  type RankCorrelation,
  type RankCorrelationOptions,
  rankCorrelation,
  type Stratum,
} from "./subnetworks/rank-correlation";
export {
  type EndSpectrum,
  type Estimated as EstimatedTrace,
  type Interlacing,
  interlacing,
  type ValueInterval,
  type Violation,
} from "./subnetworks/spectrum";
export type { Baseline } from "./subspaces/baseline";
export type { VectorSet } from "./subspaces/orthonormal";
export {
  type BaselineOptions,
  compareSubspaces,
  gradientShare,
  inverseParticipation,
  type MaskOverlap,
  maskOverlap,
  overlapBaseline,
  principalAngles,
  type SubspaceComparison,
  subspaceOverlap,
  type TensorShare,
  tensorShares,
  type VectorShare,
} from "./subspaces/subspaces";
export {
  BREAKING_MEASURES,
  type BreakingAlongOptions,
  type BreakingCourse,
  type BreakingMeasure,
  type BreakingOptions,
  type GroupBreaking,
  type MeasuredBreaking,
  type NullModel,
  type SymmetryBreaking,
  symmetryBreaking,
  symmetryBreakingAlong,
} from "./symmetry/breaking";
export type { FamilyName } from "./symmetry/families";
export type { SparseVector, SymmetryInstance } from "./symmetry/instances";
export type { OrbitDimension } from "./symmetry/orbits";
export {
  analysePermutations,
  type FixedAxis,
  type PermutationAnalysis,
  permutationGroups,
} from "./symmetry/permutations";
export {
  Symmetries,
  type SymmetriesOptions,
  type SymmetryFamily,
  symmetries,
} from "./symmetry/symmetries";
export type { PermutationGroup, UnitPlace } from "./symmetry/types";
export {
  type VerifiedGroup,
  type VerifyPermutationsOptions,
  verifyPermutations,
} from "./symmetry/verify-permutations";
export {
  type SymmetryVerification,
  type VerifiedFamily,
  type VerifiedSymmetry,
  type VerifySymmetriesOptions,
  verifySymmetries,
} from "./symmetry/verify-symmetries";
export { type KernelShare, kernelShare, withoutDirections } from "./symmetry/without";
export {
  type Diagonal,
  type DiagonalOptions,
  diagonal,
  frobeniusNorm,
  type NormOptions,
  type SampledNumber,
  type SamplingOptions,
  schattenNorm,
  type TraceOptions,
  trace,
} from "./trace";
export {
  type InitialOptions,
  type InitialRule,
  initialParameters,
  initialRules,
} from "./training/initial";
export {
  CONTROLS,
  type Control,
  type Lottery,
  type LotteryOptions,
  type LotteryPlan,
  type LotteryProgress,
  lottery,
} from "./training/lottery";
export type { Schedule } from "./training/schedules";
export type { OptimizerOptions } from "./training/session";
export type { LotteryLevel, OverSeeds, TicketSummary } from "./training/ticket-figures";
export {
  type RecipeOptions,
  type Training,
  type TrainingPoint,
  type TrainingProgress,
  type TrainOptions,
  train,
} from "./training/train";
export {
  type AlignmentOptions,
  type GradientNoise,
  type GradientNoiseOptions,
  gradientNoise,
  type Measured,
  type OperatorAlignment,
  operatorAlignment,
} from "./trajectory/alignment";
export {
  type Charge,
  type ChargeDrift,
  type ChargeDriftOptions,
  chargeDrift,
} from "./trajectory/charges";
export {
  type CurvatureAlong,
  type CurvatureAlongOptions,
  type CurvaturePoint,
  curvatureAlong,
  type SpaceOverlaps,
  stabilityThreshold,
} from "./trajectory/curvature";
export {
  type PathComponents,
  type PathDirections,
  type PathDirectionsOptions,
  type PathGeometry,
  type PathMeasures,
  type PathOptions,
  pathDirections,
  pathGeometry,
  type RandomWalk,
  type TrajectoryMap,
} from "./trajectory/geometry";
export {
  bhattacharyyaDistance,
  type InPcaEmbedding,
  type InPcaOptions,
  inPca,
} from "./trajectory/in-pca";
export {
  type MaskStability,
  type MaskStabilityOptions,
  maskStability,
  type OverlapCurve,
} from "./trajectory/mask-stability";
export {
  labelPredictions,
  type Predictions,
  predictionsAlong,
  predictionsOf,
  uniformPredictions,
} from "./trajectory/predictions";
export {
  type CompareRunsOptions,
  compareRuns,
  type RunAssociation,
  type RunComparison,
  type RunRow,
  type StudyRun,
} from "./trajectory/runs";
export {
  type CheckpointSource,
  Trajectory,
  type TrajectoryOptions,
  trajectory,
} from "./trajectory/trajectory";
