//! Where a control step spends its time: hooks for a cycle counter.

/// A part of the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Phase {
    /// Embedding of return-to-go, state and action, convolutions included; the timestep table.
    Embed,
    /// Quantization of what goes into linear layers.
    Quantize,
    /// Queries, keys and values.
    Qkv,
    /// Storing keys and values; scores, softmax and weighted values.
    Attention,
    /// The layer after attention.
    Projection,
    /// Both layers of the MLP and what lies between them.
    Mlp,
    /// Layer norms.
    Norm,
    /// The action head.
    Head,
}

impl Phase {
    /// Every phase, in the order of the forward pass.
    pub const ALL: [Self; 8] = [
        Self::Embed,
        Self::Quantize,
        Self::Qkv,
        Self::Attention,
        Self::Projection,
        Self::Mlp,
        Self::Norm,
        Self::Head,
    ];
}

/// Told whenever the forward pass goes from one phase to the next. Phases alternate many times in
/// a step; the last one ends when the step returns.
pub trait Probe {
    /// `phase` begins.
    fn enter(&mut self, phase: Phase);
}

/// Measures nothing, and costs nothing.
impl Probe for () {
    #[inline(always)]
    fn enter(&mut self, _phase: Phase) {}
}
