//! Models: a module or a function, its weights and a device, ready to run.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::backend::{Cost, DeviceTensor, Plan, Started, StepProfile, Weights};
use crate::checkpoint::{Checkpoint, Storage};
use crate::device::Device;
use crate::dtype::{DType, Precision};
use crate::error::{Error, Result};
use crate::graph::op::{Op, Unary};
use crate::graph::step::{Memory, Schedule};
use crate::graph::{Graph, Var, lower, optimize};
use crate::import::module::{self, StoredModule};
use crate::import::program::{Program, TensorInfo};
use crate::nn::Module;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// A network with its weights on a device, in eval mode.
///
/// The first run of a set of input shapes traces the network, folds and fuses what can be, plans memory and compiles;
/// later runs of those shapes replay that plan. Weights are loaded to the device once, when the first plan is made.
/// A model may be used from many threads; its runs take turns.
///
/// ```
/// use sconce::{Device, Graph, Model, Tensor, Var};
/// let model = Model::from_fn(&Device::cpu(), |g: &mut Graph, x: &[Var]| Ok(vec![g.softmax(x[0], -1)?]));
/// let y = model.run(&[Tensor::new([1, 2], [0f32, 0.])?])?;
/// assert_eq!(y[0].as_slice::<f32>()?, [0.5, 0.5]);
/// # Ok::<(), sconce::Error>(())
/// ```
pub struct Model {
    trace: Arc<Trace>,
    device: Device,
    precision: Precision,
    state: Arc<Mutex<State>>,
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
}

type Trace = dyn Fn(&mut Graph, &[Var]) -> Result<Vec<Var>> + Send + Sync;

#[derive(Default)]
struct State {
    /// Made with the first plan.
    weights: Option<Weights>,
    /// The plans of the shapes that were met last, the latest last.
    plans: Vec<(Vec<InputKind>, Ready)>,
    /// The storages of all parameters so far. Weights are known by their storage's address, which this keeps from
    /// being used again; it keeps no data.
    storages: HashMap<usize, Weak<Storage>>,
}

/// A plan, and whether it computes with integers as floats.
struct Ready {
    plan: Plan,
    computes_integers: bool,
    /// The outputs that are integers made from floats, which a float holds exactly up to a limit.
    rounded: Arc<[usize]>,
    /// The kernels of a run, and how often it runs each.
    kernels: Vec<(String, usize)>,
}

/// What a plan is made for: of each input, the shape and whether it holds integers.
type InputKind = (Shape, bool);

/// How many plans a model keeps. Each has an arena of its own.
const MAX_PLANS: usize = 8;

/// What a plan costs.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct PlanInfo {
    /// The number of steps of a run: kernels on the CPU, dispatches on a GPU.
    pub steps: usize,
    /// The bytes of memory for what is computed between input and output.
    pub arena_bytes: usize,
    /// The bytes of the weights in the form in which this device keeps them, those of all plans of the model.
    pub weight_bytes: usize,
    /// What of the model's files was brought to a GPU for this plan; `None` on the CPU.
    pub upload: Option<Upload>,
}

/// What was brought to a GPU, and how long it took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Upload {
    /// The bytes of the files; none when an earlier plan of the model had them brought.
    pub bytes: u64,
    /// From the first byte that is read to the last one that is where kernels read it. Meanwhile other threads compile
    /// pipelines that are missing.
    pub ms: f64,
}

impl Model {
    /// A model from a module, which is called with one input.
    ///
    /// # Errors
    /// [`ErrorKind::StateDict`](crate::ErrorKind::StateDict) when parameters of the module have no values yet.
    pub fn new(module: impl Module + 'static, device: &Device) -> Result<Self> {
        module.check_loaded()?;
        Ok(Self::from_fn(device, move |graph: &mut Graph, inputs: &[Var]| match inputs {
            [x] => Ok(vec![module.forward(graph, *x)?]),
            _ => Err(Error::shape(format!("the module takes 1 input, {} were given", inputs.len()))),
        }))
    }

    /// Opens a file that says what to compute: a program of `torch.export` (`.pt2`), or a model of PyTorch's own layers
    /// that was saved whole (`torch.save(model, PATH)`).
    ///
    /// ```no_run
    /// use sconce::{Device, Model, Tensor};
    /// let model = Model::load("resnet18.pt2", &Device::cpu())?;
    /// let x = Tensor::read_npy("image.npy")?;
    /// let y = model.run(&[x])?;
    /// # Ok::<(), sconce::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`load`](crate::load); [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) with
    /// every operation of the program that is not supported, or as [`StoredModule::to_module`];
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) when the file is a state dict, which does not say what to
    /// compute.
    pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        Self::from_checkpoint(&checkpoint, None, device)
            .map_err(|error| error.context(format_args!("`{}`", checkpoint.name())))
    }

    /// The model that an opened file holds; `key` names one of several.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn from_checkpoint(checkpoint: &Checkpoint, key: Option<&str>, device: &Device) -> Result<Self> {
        let Some(exported) = checkpoint.exported() else {
            return Self::from_stored(&module::find(checkpoint.root(), key)?, device);
        };
        let program = Program::read(exported, key)?;
        let inputs = program.inputs().iter().map(TensorInfo::from).collect();
        let outputs = program.output_ports().iter().map(TensorInfo::from).collect();
        let model = Self::from_fn(device, move |graph: &mut Graph, inputs: &[Var]| {
            Ok(program.trace(graph, inputs)?.into_iter().map(|(var, _)| var).collect())
        });
        Ok(Self { inputs, outputs, ..model })
    }

    /// A model that was saved whole, as one that runs:
    ///
    /// ```no_run
    /// # use sconce::Model;
    /// let module = sconce::load("model.pth")?.module()?;
    /// let model = Model::from_stored(&module.eval(), &"auto".parse()?)?;
    /// # Ok::<(), sconce::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`StoredModule::to_module`].
    pub fn from_stored(module: &StoredModule, device: &Device) -> Result<Self> {
        Ok(Self::from_fn(device, module::forward(module)?))
    }

    /// A model from a function that adds what it computes to a graph. It is called once for each set of input shapes.
    pub fn from_fn(
        device: &Device,
        trace: impl Fn(&mut Graph, &[Var]) -> Result<Vec<Var>> + Send + Sync + 'static,
    ) -> Self {
        let (inputs, outputs) = (Vec::new(), Vec::new());
        let (device, precision) = (device.clone(), Precision::Exact);
        Self { trace: Arc::new(trace), device, precision, state: Arc::default(), inputs, outputs }
    }

    /// The same model, computing with this precision. A device that cannot compute so is an error when the model is
    /// compiled.
    ///
    /// ```
    /// # use sconce::{Device, DType, ErrorKind, Graph, Model, Precision, Var};
    /// # let relu = |g: &mut Graph, x: &[Var]| Ok(vec![g.relu(x[0])?]);
    /// let model = Model::from_fn(&Device::cpu(), relu).with_precision(Precision::Half);
    /// let error = model.compile(&[([2].into(), DType::F32)]).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Unsupported);
    /// ```
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self.state = Arc::default();
        self
    }

    /// How exactly it computes.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// What a model that came from a file takes, in order; nothing for one that was built in Rust.
    pub fn inputs(&self) -> &[TensorInfo] {
        &self.inputs
    }

    /// What a model that came from a file gives, in order; nothing for one that was built in Rust.
    pub fn outputs(&self) -> &[TensorInfo] {
        &self.outputs
    }

    /// Runs a model that came from a file, with inputs and outputs by name, in any order.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) for a name that the model does not have or an input that is
    /// missing, and those of [`Model::run`].
    pub fn run_named(&self, inputs: &[(&str, Tensor)]) -> Result<Vec<(String, Tensor)>> {
        let names = || self.inputs.iter().map(|info| format!("`{}`", info.name)).collect::<Vec<_>>().join(", ");
        if let Some((name, _)) = inputs.iter().find(|(name, _)| !self.inputs.iter().any(|info| info.name == *name)) {
            return Err(Error::not_found(format!("the model has no input `{name}`; it has {}", names())));
        }
        let find = |info: &TensorInfo| inputs.iter().find(|(name, _)| *name == info.name).map(|(_, x)| x.clone());
        let missing = |info: &TensorInfo| Error::not_found(format!("the input `{}` is missing", info.name));
        let ordered = self.inputs.iter().map(|info| find(info).ok_or_else(|| missing(info)));
        let outputs = self.run(&ordered.collect::<Result<Vec<_>>>()?)?;
        Ok(self.outputs.iter().map(|info| info.name.clone()).zip(outputs).collect())
    }

    /// The device that it runs on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Moves the model to another device, or to the same one when it was lost and opened again. What it had on the old
    /// device is given back; the weights are loaded from their file again by the next run. PyTorch's `model.to(device)`.
    ///
    /// ```
    /// # use sconce::{Device, ErrorKind, Graph, Model, Result, Tensor, Var};
    /// /// Runs on a GPU as long as there is one, then on the CPU.
    /// fn run(model: &mut Model, x: &[Tensor]) -> Result<Vec<Tensor>> {
    ///     match model.run(x) {
    ///         Err(error) if error.kind() == ErrorKind::Device => {
    ///             model.to(&Device::open("auto")?);
    ///             model.run(x)
    ///         }
    ///         result => result,
    ///     }
    /// }
    /// # let relu = |g: &mut Graph, x: &[Var]| Ok(vec![g.relu(x[0])?]);
    /// # assert_eq!(run(&mut Model::from_fn(&Device::cpu(), relu), &[Tensor::new([1], [2f32])?])?[0].as_slice::<f32>()?, [2.]);
    /// # Ok::<(), sconce::Error>(())
    /// ```
    pub fn to(&mut self, device: &Device) {
        self.device = device.clone();
        self.state = Arc::default();
    }

    /// Runs the model and waits for its outputs: floats as `float32`, integers as `int64`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the inputs do not fit the network,
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for what the device cannot do,
    /// [`ErrorKind::Device`](crate::ErrorKind::Device) when the device fails.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        // While a GPU works, other threads may give it more.
        let (started, rounded) = self.start(inputs)?;
        as_declared(started.wait()?, &self.declared(), &rounded, self.precision)
    }

    /// Begins a run; the future waits for its outputs and blocks no thread, whatever polls it. On a GPU the run is under
    /// way when this returns, and the next one may be begun before it is done: the GPU goes from one to the other without
    /// a pause. On the CPU a thread of its own computes it.
    ///
    /// The first run of a set of shapes compiles before this returns; [`Model::warmup`] does that earlier.
    ///
    /// ```
    /// # use sconce::{Device, Graph, Model, Tensor, Var};
    /// # let model = Model::from_fn(&Device::cpu(), |g: &mut Graph, x: &[Var]| Ok(vec![g.relu(x[0])?]));
    /// # let images = [Tensor::new([1], [-1f32])?, Tensor::new([1], [2f32])?];
    /// # use std::task::{Context, Poll, Waker};
    /// # fn block_on<F: Future>(future: F) -> F::Output {
    /// #     let (mut future, mut context) = (std::pin::pin!(future), Context::from_waker(Waker::noop()));
    /// #     loop {
    /// #         if let Poll::Ready(output) = future.as_mut().poll(&mut context) { return output; }
    /// #     }
    /// # }
    /// # let outputs = block_on(async {
    /// let (first, second) = (model.run_async(&images[..1]), model.run_async(&images[1..]));
    /// let outputs = [first.await?, second.await?];
    /// # sconce::Result::Ok(outputs) })?;
    /// assert_eq!(outputs[1][0].as_slice::<f32>()?, [2.]);
    /// # Ok::<(), sconce::Error>(())
    /// ```
    ///
    /// # Errors
    /// The future's are those of [`Model::run`].
    pub fn run_async(&self, inputs: &[Tensor]) -> impl Future<Output = Result<Vec<Tensor>>> + Send + use<> {
        let started = if self.device.is_cpu() { self.start_on_thread(inputs) } else { self.start(inputs) };
        let (declared, precision) = (self.declared(), self.precision);
        async move {
            let (started, rounded) = started?;
            as_declared(started.await?, &declared, &rounded, precision)
        }
    }

    /// Runs the model from tensors on its device to new ones there. On a GPU nothing is waited for: another model's run
    /// can be given what this one will have computed, and [`DeviceTensor::to_tensor`] waits at the end.
    ///
    /// ```
    /// # use sconce::{Device, DeviceTensor, Graph, Model, Tensor, Var};
    /// # let device = Device::cpu();
    /// # let encoder = Model::from_fn(&device, |g: &mut Graph, x: &[Var]| Ok(vec![g.relu(x[0])?]));
    /// # let decoder = Model::from_fn(&device, |g: &mut Graph, x: &[Var]| Ok(vec![g.exp(x[0])?]));
    /// let x = DeviceTensor::new(&Tensor::new([1], [-1f32])?, &device)?;
    /// let y = decoder.run_on_device(&encoder.run_on_device(&[x])?)?;
    /// assert_eq!(y[0].to_tensor()?.as_slice::<f32>()?, [1.]);
    /// # Ok::<(), sconce::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Model::run`]; [`ErrorKind::Device`](crate::ErrorKind::Device) when an input is on another device;
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) on a GPU for models that give booleans or that compute
    /// with integers as floats.
    pub fn run_on_device(&self, inputs: &[DeviceTensor]) -> Result<Vec<DeviceTensor>> {
        let declares_bool = self.outputs.iter().any(|info| info.dtype == DType::Bool);
        if self.device.is_cpu() && (declares_bool || inputs.iter().any(|x| !x.dtype().is_float())) {
            // The checks and the conversion of `run` are on the host anyway.
            let host = inputs.iter().map(DeviceTensor::to_tensor).collect::<Result<Vec<_>>>()?;
            return self.run(&host)?.iter().map(|output| DeviceTensor::new(output, &self.device)).collect();
        }
        if declares_bool {
            return Err(Error::unsupported("an output is boolean, which does not stay on a device").help("use `run`"));
        }
        let kinds: Vec<(Shape, DType)> = inputs.iter().map(|x| (x.shape().clone(), x.dtype())).collect();
        self.with_plan(&kinds, |ready| {
            if ready.computes_integers {
                let what = "the model computes with integers as floats, which are checked on the host";
                return Err(Error::unsupported(what).help("use `run`"));
            }
            ready.plan.run_resident(inputs, &self.device)
        })
    }

    /// Begins a run.
    fn start(&self, inputs: &[Tensor]) -> Result<(Started, Arc<[usize]>)> {
        self.with_plan(&kinds_of(inputs), |ready| {
            if ready.computes_integers {
                inputs.iter().try_for_each(|x| check_range(x, self.precision))?;
            }
            Ok((ready.plan.start(inputs)?, Arc::clone(&ready.rounded)))
        })
    }

    /// Begins a run on a thread of its own.
    fn start_on_thread(&self, inputs: &[Tensor]) -> Result<(Started, Arc<[usize]>)> {
        let rounded = self.with_plan(&kinds_of(inputs), |ready| Ok(Arc::clone(&ready.rounded)))?;
        let (trace, device, state) = (Arc::clone(&self.trace), self.device.clone(), Arc::clone(&self.state));
        let model = Self { trace, device, precision: self.precision, state, inputs: Vec::new(), outputs: Vec::new() };
        let inputs = inputs.to_vec();
        Ok((Started::on_thread(move || model.start(&inputs)?.0.wait())?, rounded))
    }

    /// The dtypes that the outputs are declared with.
    fn declared(&self) -> Vec<DType> {
        self.outputs.iter().map(|info| info.dtype).collect()
    }

    /// Does all that the first run of these shapes would do besides: makes the plan, loads the weights, and runs once on
    /// zeros, so that drivers have finished their own preparations too.
    ///
    /// ```
    /// # use sconce::{DType, Device, Graph, Model, Var};
    /// # let model = Model::from_fn(&Device::cpu(), |g: &mut Graph, x: &[Var]| Ok(vec![g.relu(x[0])?]));
    /// model.warmup(&[([1, 3, 224, 224].into(), DType::F32)])?;
    /// # Ok::<(), sconce::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Model::run`].
    pub fn warmup(&self, inputs: &[(Shape, DType)]) -> Result<PlanInfo> {
        let info = self.compile(inputs)?;
        let zeros: Vec<Tensor> = inputs.iter().map(|(shape, dtype)| Tensor::zeros(*dtype, shape.clone())).collect();
        self.run(&zeros)?;
        Ok(info)
    }

    /// Makes the plan for inputs of these shapes and dtypes, and loads the weights, unless that has been done: the
    /// first run of these shapes need not wait for it then.
    ///
    /// # Errors
    /// Those of [`Model::run`].
    pub fn compile(&self, inputs: &[(Shape, DType)]) -> Result<PlanInfo> {
        let plan = |ready: &mut Ready| Ok((ready.plan.steps(), ready.plan.arena_bytes(), ready.plan.upload()));
        let (steps, arena_bytes, upload) = self.with_plan(inputs, plan)?;
        let upload = upload.map(|(bytes, ms)| Upload { bytes, ms });
        let weight_bytes =
            self.state.lock().unwrap_or_else(PoisonError::into_inner).weights.as_ref().map_or(0, Weights::bytes);
        Ok(PlanInfo { steps, arena_bytes, weight_bytes, upload })
    }

    /// The kernels that a run with inputs of these shapes and dtypes runs, and how often each: on a GPU its shaders, which
    /// depend on the device and the [`Precision`]. Makes the plan as [`Model::compile`] does.
    ///
    /// # Errors
    /// Those of [`Model::run`].
    pub fn kernels(&self, inputs: &[(Shape, DType)]) -> Result<Vec<(String, usize)>> {
        self.with_plan(inputs, |ready| Ok(ready.kernels.clone()))
    }

    /// Runs the model so often, at least once, and gives its steps with their times, on a GPU by the GPU's own clock. The
    /// first run of a shape is slower than the others: run the model before.
    ///
    /// ```
    /// # use sconce::{Device, Graph, Model, Tensor, Var};
    /// let model = Model::from_fn(&Device::cpu(), |g: &mut Graph, x: &[Var]| Ok(vec![g.softmax(x[0], -1)?]));
    /// let profile = model.profile(&[Tensor::new([1, 2], [0f32, 0.])?], 10)?;
    /// assert_eq!((profile.len(), profile[0].kernel), (1, "softmax"));
    /// # Ok::<(), sconce::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Model::run`]; [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) on a GPU that cannot time
    /// single kernels: see [`DeviceLimits::timestamps`](crate::DeviceLimits::timestamps).
    pub fn profile(&self, inputs: &[Tensor], runs: usize) -> Result<Vec<StepProfile>> {
        self.with_plan(&kinds_of(inputs), |ready| ready.plan.profile(inputs, runs))
    }

    /// What a run with inputs of these shapes and dtypes takes, by arithmetic: no weight is loaded, nothing is compiled.
    ///
    /// ```
    /// # use sconce::{DType, Device, Graph, Model, Var};
    /// let model = Model::from_fn(&Device::cpu(), |g: &mut Graph, x: &[Var]| Ok(vec![g.matmul(x[0], x[0])?]));
    /// let cost = model.cost(&[([8, 8].into(), DType::F32)])?;
    /// assert_eq!((cost.steps, cost.flops, cost.bytes), (1, 2 * 8 * 8 * 8, 3 * 4 * 8 * 8));
    /// # Ok::<(), sconce::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the inputs do not fit the network,
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for what the device cannot do.
    pub fn cost(&self, inputs: &[(Shape, DType)]) -> Result<Cost> {
        check_runnable(inputs)?;
        Ok(Cost::of(&self.schedule(inputs)?.0))
    }

    fn with_plan<T>(&self, inputs: &[(Shape, DType)], use_plan: impl FnOnce(&mut Ready) -> Result<T>) -> Result<T> {
        check_runnable(inputs)?;
        let kinds: Vec<InputKind> = inputs.iter().map(|(shape, dtype)| (shape.clone(), !dtype.is_float())).collect();
        // A panic while the lock was held can leave a plan half used, but every run writes what it reads.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (kinds, mut plan) = match state.plans.iter().position(|(own, _)| *own == kinds) {
            Some(index) => state.plans.remove(index),
            None => {
                let plan = self.make_plan(&mut state, inputs)?;
                if state.plans.len() == MAX_PLANS {
                    state.plans.remove(0);
                }
                (kinds, plan)
            }
        };
        let result = use_plan(&mut plan);
        state.plans.push((kinds, plan));
        result
    }

    /// The steps for inputs of these shapes, and whether they compute with integers as floats.
    fn schedule(&self, inputs: &[(Shape, DType)]) -> Result<(Schedule, bool, Arc<[usize]>)> {
        let mut graph = Graph::new();
        graph.is_half = self.precision == Precision::Half;
        let vars: Vec<Var> = inputs.iter().map(|(shape, dtype)| graph.input(shape.clone(), *dtype)).collect();
        let outputs = (self.trace)(&mut graph, &vars)?;
        let is_rounded = |x: &Var| matches!(graph.node(*x).op, Op::Unary(Unary::ToInt));
        let rounded = (0..outputs.len()).filter(|&i| is_rounded(&outputs[i])).collect();
        graph.set_outputs(outputs);
        let computes_integers =
            graph.vars().any(|x| matches!(graph.node(x).op, Op::Unary(Unary::FromInt) if !graph.node(x).is_constant));
        let float_bytes = if self.precision == Precision::Half { 2 } else { 4 };
        Ok((lower(&optimize(&graph)?, !self.device.is_cpu(), float_bytes)?, computes_integers, rounded))
    }

    fn make_plan(&self, state: &mut State, inputs: &[(Shape, DType)]) -> Result<Ready> {
        let (schedule, computes_integers, rounded) = self.schedule(inputs)?;
        for buffer in &schedule.buffers {
            if let Memory::Parameter(parameter) = &buffer.memory {
                let storage = parameter.tensor.storage();
                state.storages.entry(Arc::as_ptr(storage).addr()).or_insert_with(|| Arc::downgrade(storage));
            }
        }
        let weights = match &mut state.weights {
            Some(weights) => weights,
            none => none.insert(Weights::new(&self.device, self.precision)?),
        };
        let plan = Plan::new(&schedule, weights)?;
        let mut kernels: Vec<(String, usize)> = Vec::new();
        for name in plan.kernels(&schedule) {
            match kernels.iter_mut().find(|(own, _)| own == name) {
                Some((_, count)) => *count += 1,
                None => kernels.push((name.to_owned(), 1)),
            }
        }
        Ok(Ready { plan, computes_integers, rounded, kernels })
    }
}

/// An error when an input has a dtype that nothing computes with.
fn check_runnable(inputs: &[(Shape, DType)]) -> Result<()> {
    match inputs.iter().enumerate().find(|(_, (_, dtype))| !dtype.is_runnable()) {
        Some((index, (_, dtype))) => Err(Error::unsupported(format!("input {index} is {dtype}, which does not run"))),
        None => Ok(()),
    }
}

/// How many bits of an integer are computed with exactly.
fn exact_bits(precision: Precision) -> u32 {
    if precision == Precision::Half { 11 } else { 24 }
}

/// An error when an integer is too large to be computed with as a float of the device.
fn check_range(input: &Tensor, precision: Precision) -> Result<()> {
    if input.dtype().is_float() {
        return Ok(());
    }
    let bits = exact_bits(precision);
    match input.to_i64()?.into_iter().find(|x| x.unsigned_abs() > 1 << bits) {
        Some(x) => Err(Error::unsupported(format!(
            "an input has the integer {x}: in {precision} integers up to 2^{bits} are computed with"
        ))),
        None => Ok(()),
    }
}

/// What a plan for these inputs is made for.
fn kinds_of(inputs: &[Tensor]) -> Vec<(Shape, DType)> {
    inputs.iter().map(|x| (x.shape().clone(), x.dtype())).collect()
}

/// The outputs in the dtypes that the file says. Those that are `rounded` were computed as floats.
fn as_declared(
    outputs: Vec<Tensor>,
    declared: &[DType],
    rounded: &[usize],
    precision: Precision,
) -> Result<Vec<Tensor>> {
    let bits = exact_bits(precision);
    for &index in rounded {
        if let Some(x) = outputs[index].to_i64()?.into_iter().find(|x| x.unsigned_abs() >= 1 << bits) {
            return Err(Error::unsupported(format!(
                "output {index} has {x}: in {precision} integers below 2^{bits} are computed exactly"
            )));
        }
    }
    let convert = |(i, output): (usize, Tensor)| match declared.get(i) {
        Some(&dtype) if dtype == output.dtype() => Ok(output),
        Some(DType::Bool) => {
            let bytes: Vec<u8> = output.to_f32()?.into_iter().map(|x| u8::from(x != 0.0)).collect();
            Tensor::from_bytes(DType::Bool, output.shape().clone(), &bytes)
        }
        Some(&dtype) => output.to(dtype),
        None => Ok(output),
    };
    outputs.into_iter().enumerate().map(convert).collect()
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("device", &self.device).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
