//! All parameters of a network in one tensor.
//!
//! The optimizer, the gradient norm and Polyak averaging then are a handful of kernels over one buffer, whatever the
//! number of layers, and a checkpoint of it is exact. The network sees its weights as [`views`](Flat::views).

use tch::{Device, Kind, Tensor};

/// Names and shapes of a network's parameters, in the order of the buffer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    entries: Vec<(String, Vec<i64>)>,
}

impl Layout {
    /// No parameters yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a parameter.
    pub fn push(&mut self, name: impl Into<String>, shape: &[i64]) {
        self.entries.push((name.into(), shape.to_vec()));
    }

    /// Name and shape of each parameter.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &[i64])> {
        self.entries
            .iter()
            .map(|(name, shape)| (name.as_str(), shape.as_slice()))
    }

    /// Whether a parameter is a matrix, or a convolution: neither bias nor norm nor a table.
    pub fn is_matrix(name: &str, shape: &[i64]) -> bool {
        name.ends_with(".weight") && shape.len() > 1
    }

    /// Number of parameter tensors.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Number of values over all parameters.
    pub fn numel(&self) -> i64 {
        self.sizes().iter().sum()
    }

    fn sizes(&self) -> Vec<i64> {
        self.entries
            .iter()
            .map(|(_, shape)| shape.iter().product())
            .collect()
    }
}

/// Why parameters did not fit a [`Layout`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// A parameter of the network is not there.
    #[error("tensor `{0}` is missing")]
    Missing(String),
    /// A parameter has another shape.
    #[error("tensor `{name}` has shape {got:?}, the network needs {expected:?}")]
    Shape {
        /// Which.
        name: String,
        /// Shape in the network.
        expected: Vec<i64>,
        /// Shape given.
        got: Vec<i64>,
    },
}

/// One f32 leaf tensor that holds every parameter of a network.
#[derive(Debug)]
pub struct Flat {
    layout: Layout,
    sizes: Vec<i64>,
    values: Tensor,
}

impl Flat {
    /// Zero parameters on `device`, each then handed by name to `initialize`.
    pub fn new(
        layout: Layout,
        device: Device,
        mut initialize: impl FnMut(&str, &mut Tensor),
    ) -> Self {
        let sizes = layout.sizes();
        let values = Tensor::zeros([layout.numel()], (Kind::Float, device));
        let mut flat = Self {
            layout,
            sizes,
            values,
        };
        tch::no_grad(|| {
            for (mut view, (name, _)) in flat.frozen().into_iter().zip(flat.layout.iter()) {
                initialize(name, &mut view);
            }
        });
        flat.values = flat.values.set_requires_grad(true);
        flat
    }

    /// The parameters in layout order, differentiable. Take them anew for every forward pass: they are nodes of its
    /// graph.
    pub fn views(&self) -> Vec<Tensor> {
        self.split(&self.values)
    }

    /// The parameters in layout order as constants; writing to them writes to the buffer.
    pub fn frozen(&self) -> Vec<Tensor> {
        self.split(&self.values.detach())
    }

    /// Any tensor of the buffer's length (a gradient, a moment) cut into the shapes of the parameters.
    pub fn split(&self, buffer: &Tensor) -> Vec<Tensor> {
        let parts = buffer.split_with_sizes(&self.sizes, 0);
        parts
            .iter()
            .zip(self.layout.iter())
            .map(|(part, (_, shape))| part.view(shape))
            .collect()
    }

    /// The parts of a [`split`](Self::split) with names and shapes.
    pub fn named(&self, buffer: &Tensor) -> impl Iterator<Item = (Tensor, (&str, &[i64]))> {
        self.split(buffer).into_iter().zip(self.layout.iter())
    }

    /// ∂`loss`/∂parameters, as long as the buffer. Frees the graph of `loss`.
    pub fn gradient(&self, loss: &Tensor) -> Tensor {
        Tensor::run_backward(&[loss], &[&self.values], false, false).remove(0)
    }

    /// The buffer: a leaf that requires a gradient.
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// The buffer, to be updated in place.
    pub fn values_mut(&mut self) -> &mut Tensor {
        &mut self.values
    }

    /// Names and shapes.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// A copy that shares nothing with this one.
    pub fn duplicate(&self) -> Self {
        let values = self.values.detach().copy().set_requires_grad(true);
        Self {
            layout: self.layout.clone(),
            sizes: self.sizes.clone(),
            values,
        }
    }

    /// Moves every parameter the fraction `tau` of the way towards `other`'s (Polyak averaging).
    pub fn approach(&mut self, other: &Self, tau: f64) {
        let _ = tch::no_grad(|| self.values.lerp_(&other.values, tau));
    }

    /// Copies the parameters that `source` finds by name.
    ///
    /// # Errors
    /// A parameter is missing or has another shape; the buffer is then unchanged.
    pub fn load(&mut self, source: impl Fn(&str) -> Option<Tensor>) -> Result<(), LoadError> {
        let mut parts = Vec::with_capacity(self.layout.len());
        for (name, shape) in self.layout.iter() {
            let tensor = source(name).ok_or_else(|| LoadError::Missing(name.into()))?;
            if tensor.size() != shape {
                return Err(LoadError::Shape {
                    name: name.into(),
                    expected: shape.into(),
                    got: tensor.size(),
                });
            }
            parts.push(tensor.reshape([-1]));
        }
        tch::no_grad(|| self.values.copy_(&Tensor::cat(&parts, 0)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        let mut layout = Layout::new();
        layout.push("weight", &[2, 3]);
        layout.push("bias", &[2]);
        layout
    }

    fn ramp() -> Flat {
        Flat::new(layout(), Device::Cpu, |name, view| {
            let _ = if name == "weight" {
                view.fill_(2.0)
            } else {
                view.fill_(-1.0)
            };
        })
    }

    fn read(tensor: &Tensor) -> Vec<f32> {
        Vec::try_from(tensor.detach().reshape([-1])).unwrap()
    }

    #[test]
    fn views_have_the_layout_and_carry_gradients() {
        let flat = ramp();
        let views = flat.views();
        assert_eq!(views[0].size(), [2, 3]);
        let x = Tensor::from_slice(&[1.0f32, 10.0, 100.0]);
        let y = views[0].matmul(&x) + &views[1];
        assert_eq!(read(&y), [221.0, 221.0]);
        let gradient = flat.gradient(&y.sum(Kind::Float));
        assert_eq!(
            read(&gradient),
            [1.0, 10.0, 100.0, 1.0, 10.0, 100.0, 1.0, 1.0]
        );
    }

    #[test]
    fn unused_parameters_get_a_zero_gradient() {
        let flat = ramp();
        let gradient = flat.gradient(&flat.views()[1].sum(Kind::Float));
        assert_eq!(read(&gradient), [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]);
    }

    #[test]
    fn a_duplicate_is_independent_and_approaches() {
        let mut flat = ramp();
        let mut other = flat.duplicate();
        let _ = tch::no_grad(|| other.values_mut().fill_(4.0));
        assert_eq!(read(flat.values())[0], 2.0);
        flat.approach(&other, 0.25);
        assert_eq!(
            read(flat.values()),
            [2.5, 2.5, 2.5, 2.5, 2.5, 2.5, 0.25, 0.25]
        );
    }

    #[test]
    fn load_names_what_does_not_fit_and_changes_nothing() {
        let mut flat = ramp();
        let missing = flat.load(|name| {
            (name == "weight").then(|| Tensor::ones([2, 3], (Kind::Float, Device::Cpu)))
        });
        assert_eq!(missing, Err(LoadError::Missing("bias".into())));
        let shape = flat.load(|_| Some(Tensor::ones([2, 3], (Kind::Float, Device::Cpu))));
        assert_eq!(
            shape.unwrap_err().to_string(),
            "tensor `bias` has shape [2, 3], the network needs [2]"
        );
        assert_eq!(read(flat.values()), read(ramp().values()));
        let source = ramp().duplicate();
        let parts = source.frozen();
        flat.load(|name| Some(parts[usize::from(name == "bias")].shallow_clone()))
            .unwrap();
        assert_eq!(read(flat.values()), read(source.values()));
    }
}
