//! The parameters of a network by name: their shapes, how they start, their way to and from checkpoints.
//!
//! A network says its parameters once, as a list. Everything else (the flat buffer, checkpoints, policy files, layers)
//! finds them by name.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tch::{Device, Kind, Tensor};

use super::flat::{Flat, Layout};
use crate::run::checkpoint::{CheckpointError, Weights};

/// One parameter tensor: its name in checkpoints, its shape and its initial distribution.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Such as `layers.0.attn_qkv.weight`.
    pub name: String,
    /// Row-major shape.
    pub shape: Vec<i64>,
    /// Initial distribution.
    pub init: Init,
}

/// Initial distribution of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All 0.
    Zeros,
    /// All 1.
    Ones,
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
    /// Uniform in ± this bound.
    Uniform(f64),
}

/// Weight and bias of a linear layer as libtorch's `Linear` draws them.
pub fn framework_init(fan_in: i64) -> [Init; 2] {
    [Init::Uniform(1.0 / (fan_in as f64).sqrt()); 2]
}

/// A list to which layers are appended, each under its name.
#[derive(Debug, Default)]
pub struct ParameterList(Vec<Parameter>);

impl From<ParameterList> for Vec<Parameter> {
    fn from(list: ParameterList) -> Self {
        list.0
    }
}

impl ParameterList {
    /// A single tensor.
    pub fn push(&mut self, name: impl Into<String>, shape: &[i64], init: Init) {
        self.0.push(Parameter {
            name: name.into(),
            shape: shape.to_vec(),
            init,
        });
    }

    /// `name.weight`, (outputs, inputs), and `name.bias`, (outputs).
    pub fn linear(&mut self, name: &str, [rows, cols]: [i64; 2], [weight, bias]: [Init; 2]) {
        self.push(format!("{name}.weight"), &[rows, cols], weight);
        self.push(format!("{name}.bias"), &[rows], bias);
    }

    /// `name.weight` and `name.bias` of a layer norm.
    pub fn norm(&mut self, name: &str, width: i64) {
        self.push(format!("{name}.weight"), &[width], Init::Ones);
        self.push(format!("{name}.bias"), &[width], Init::Zeros);
    }
}

/// libtorch's generator on the CPU, of which a process has one.
static GENERATOR: Mutex<()> = Mutex::new(());

/// Seeds libtorch's generators, which are the caller's as long as it keeps what is returned: several trainings in one
/// process would else draw each other's numbers.
pub(crate) fn seeded(seed: u64) -> MutexGuard<'static, ()> {
    let generator = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    tch::manual_seed(seed.cast_signed());
    generator
}

/// Fresh parameters on `device`. They are drawn on the CPU, so that they do not depend on the device.
pub fn draw(parameters: &[Parameter], seed: u64, device: Device) -> Flat {
    let _generator = seeded(seed);
    let mut inits = parameters.iter().map(|parameter| parameter.init);
    Flat::new(layout(parameters), device, |_, view| {
        let mut drawn = Tensor::zeros(view.size(), (Kind::Float, Device::Cpu));
        let _ = match inits.next().expect("one per parameter") {
            Init::Zeros => drawn.zero_(),
            Init::Ones => drawn.fill_(1.0),
            Init::Normal(std) => drawn.normal_(0.0, std),
            Init::Uniform(bound) => drawn.uniform_(-bound, bound),
        };
        view.copy_(&drawn);
    })
}

/// The values of a checkpoint on `device`.
///
/// # Errors
/// An array is missing or has another shape.
pub fn loaded(
    parameters: &[Parameter],
    weights: &Weights,
    device: Device,
) -> Result<Flat, CheckpointError> {
    let mut flat = Flat::new(layout(parameters), device, |_, _| {});
    load(&mut flat, weights)?;
    Ok(flat)
}

/// Names and shapes alone.
pub fn layout(parameters: &[Parameter]) -> Layout {
    let mut layout = Layout::new();
    for Parameter { name, shape, .. } in parameters {
        layout.push(name, shape);
    }
    layout
}

/// The parameters' values on the host, by name.
pub fn weights(parameters: &Flat) -> Weights {
    let mut weights = Weights::default();
    for (tensor, (name, shape)) in parameters.frozen().iter().zip(parameters.layout().iter()) {
        let shape = shape.iter().map(|&n| n as usize).collect();
        weights.insert(name.to_owned(), shape, host_values(tensor));
    }
    weights
}

/// Copies `weights` into parameters of the same network.
///
/// # Errors
/// If an array is missing or has another shape; the parameters are then unchanged.
pub fn load(parameters: &mut Flat, weights: &Weights) -> Result<(), CheckpointError> {
    let mut values = Vec::with_capacity(parameters.values().numel());
    for (name, shape) in parameters.layout().iter() {
        let shape: Vec<usize> = shape.iter().map(|&n| n as usize).collect();
        values.extend_from_slice(weights.get(name, &shape)?);
    }
    let values = Tensor::from_slice(&values);
    tch::no_grad(|| parameters.values_mut().copy_(&values));
    Ok(())
}

/// All values of an f32 tensor, row-major, on the host.
pub fn host_values(tensor: &Tensor) -> Vec<f32> {
    let tensor = tensor.detach().to(Device::Cpu).contiguous();
    let mut values = vec![0.0; tensor.numel()];
    tensor.copy_data(&mut values, tensor.numel());
    values
}
