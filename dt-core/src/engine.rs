//! The forward pass, one control step at a time.
//!
//! Tokens of a control step go through the network together, in causal order: the previous
//! action, the return-to-go, the state. What has been computed of them before (the *split* step)
//! is left out; the bits are the same either way, since tokens share nothing but the cache.
//!
//! Where the state comes first, the previous action and the state go through the network together, and then, when what they
//! predict has become one, the return-to-go (`Stepper::foresee`).

use core::cell::Cell;

use crate::arena::{Layout, Memory, Work, layer_cache};
use crate::attention;
use crate::cache::{self, Ring, Visible};
use crate::config::{self, Head, TOKENS_PER_STEP};
use crate::encoder::Image;
use crate::kernels;
use crate::linear::{GROUP, Input, Linear};
use crate::model::{Mixing, Model};
use crate::ops;
use crate::probe::{Phase, Probe};
use crate::quant::NonFinite;
use crate::slices::{Guaranteed, copy, floats, minus, part, plus, rows, rows_mut, times, words};
use crate::window::{History, RecordShape};

/// The arena is too small for the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ArenaTooSmall {
    /// 32-bit words the model needs ([`config::Config::arena_words`]).
    pub needed: usize,
    /// 32-bit words there are.
    pub have: usize,
}

impl core::fmt::Display for ArenaTooSmall {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { needed, have } = self;
        write!(
            f,
            "the policy needs an arena of {needed} words, this one has {have}"
        )
    }
}

impl core::error::Error for ArenaTooSmall {}

/// A network in normalized units: what `dt-train predict` and parity tests step through.
/// Control loops use [`crate::Policy`], which normalizes and keeps the books.
#[derive(Debug)]
pub struct Engine<'a, A> {
    stepper: Stepper<'a>,
    arena: A,
}

impl<'a, A: AsMut<[u32]>> Engine<'a, A> {
    /// Prepares to run `model` with all state in `arena`.
    ///
    /// # Errors
    /// [`ArenaTooSmall`] names both sizes.
    pub fn new(model: &Model<'a>, mut arena: A) -> Result<Self, ArenaTooSmall> {
        let stepper = Stepper::new(model, arena.as_mut())?;
        Ok(Self { stepper, arena })
    }

    /// Forgets every earlier timestep.
    pub fn reset(&mut self) {
        self.stepper.reset();
    }

    /// One fused control step: absorbs the previous action (`None` on the first step) and returns
    /// the action for `state`, all in normalized units; an image is whole numbers from 0 to 255. `timestep` saturates at the end of
    /// the model's table.
    ///
    /// # Errors
    /// [`NonFinite`] if a value inside the network is NaN or infinite; the engine needs a
    /// [`reset`](Self::reset) then.
    pub fn step(
        &mut self,
        previous_action: Option<&[f32]>,
        return_to_go: f32,
        state: &[f32],
        timestep: u32,
    ) -> Result<&[f32], NonFinite> {
        let mut memory = Memory::carve(&self.stepper.layout, self.arena.as_mut());
        if let Some(action) = previous_action {
            copy(action, memory.action);
        }
        if self.stepper.config().image().is_some() {
            self.stepper.encode(&mut memory, state, &mut ())?;
        } else {
            copy(state, memory.state);
        }
        let mut tokens = Pending {
            action: previous_action.is_some(),
            return_to_go: Some(return_to_go),
        };
        if self.stepper.config().is_state_first() {
            self.stepper
                .foresee(&mut memory, &mut tokens, timestep, &mut ())?;
        }
        self.stepper.step(&mut memory, tokens, timestep, &mut ())?;
        Ok(memory.work.output)
    }

    /// What the network predicted at the last [`step`](Self::step) that had a previous action would come after it: the state, then the
    /// return-to-go, as far as it predicts them ([`config::Predictions`]), in normalized units. Where the state comes first, the
    /// return-to-go of every step.
    pub fn predicted(&mut self) -> &[f32] {
        Memory::carve(&self.stepper.layout, self.arena.as_mut())
            .work
            .predicted
    }
}

/// Tokens before the state that the network has not seen yet. The action itself lies in
/// [`Memory::action`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pending {
    /// The action of the newest timestep.
    pub(crate) action: bool,
    /// The return-to-go that begins the next timestep.
    pub(crate) return_to_go: Option<f32>,
}

/// Everything about a run of the network except its memory.
#[derive(Clone, Debug)]
pub(crate) struct Stepper<'a> {
    model: Model<'a>,
    pub(crate) layout: Layout,
    ring: Ring,
    /// Timestep of the newest timestep in the ring.
    timestep: u32,
    history: History,
}

impl<'a> Stepper<'a> {
    pub(crate) fn new(model: &Model<'a>, arena: &mut [u32]) -> Result<Self, ArenaTooSmall> {
        let config = model.config();
        let layout = Layout::new(config);
        let (needed, have) = (layout.words(), arena.len());
        if have < needed {
            return Err(ArenaTooSmall { needed, have });
        }
        // Integer sums run over all of the cache, also where nothing was stored yet: a −128 there
        // would break their bound.
        let nothing = kernels::PACKED_ZEROS;
        Memory::carve(&layout, arena).work.cache.fill(nothing);
        Ok(Self {
            layout,
            ring: Ring::new(config.seen_steps()),
            timestep: 0,
            history: History::default(),
            model: *model,
        })
    }

    pub(crate) fn config(&self) -> &config::Config {
        self.model.config()
    }

    pub(crate) fn reset(&mut self) {
        self.ring.clear();
        self.history = History::default();
    }

    /// Computes pending tokens before the next state is known. The window engine has nothing to
    /// gain from that: it recomputes everything.
    pub(crate) fn run_ahead(
        &mut self,
        memory: &mut Memory<'_>,
        tokens: &mut Pending,
        timestep: u32,
        probe: &mut impl Probe,
    ) -> Result<(), NonFinite> {
        if self.is_window() {
            return Ok(());
        }
        let state_first = self.config().is_state_first();
        let action = core::mem::take(&mut tokens.action);
        let return_to_go = match state_first {
            // The state is not known yet.
            true => None,
            false => tokens.return_to_go.take(),
        };
        if !action && return_to_go.is_none() {
            return Ok(());
        }
        let group = Group {
            action: action.then_some(&*memory.action),
            return_to_go,
            state: None,
            timestep,
            act: false,
            predict: action && !state_first && self.config().predicts(),
        };
        self.forward(&mut memory.work, &group, probe)
    }

    /// Where the state comes first: computes the pending action and the state in [`Memory::state`]; leaves the return-to-go that
    /// follows from them in [`Work::predicted`]. What is left of the control step is the return-to-go's token.
    pub(crate) fn foresee(
        &mut self,
        memory: &mut Memory<'_>,
        tokens: &mut Pending,
        timestep: u32,
        probe: &mut impl Probe,
    ) -> Result<(), NonFinite> {
        let action = core::mem::take(&mut tokens.action);
        if self.is_window() {
            return self.recompute(memory, action, None, timestep, probe);
        }
        let group = Group {
            action: action.then_some(&*memory.action),
            return_to_go: None,
            state: Some(memory.state),
            timestep,
            act: false,
            predict: true,
        };
        self.forward(&mut memory.work, &group, probe)
    }

    /// Computes pending tokens and the state in [`Memory::state`], unless [`foresee`](Self::foresee) has; leaves the unscaled
    /// action in [`Work::output`].
    ///
    /// `tokens.return_to_go` is `None` only if [`run_ahead`](Self::run_ahead) took it.
    pub(crate) fn step(
        &mut self,
        memory: &mut Memory<'_>,
        tokens: Pending,
        timestep: u32,
        probe: &mut impl Probe,
    ) -> Result<(), NonFinite> {
        if self.config().is_mlp() {
            return self.perceive(memory, probe);
        }
        let state_first = self.config().is_state_first();
        let Pending {
            action,
            return_to_go,
        } = tokens;
        if self.is_window() {
            let return_to_go = return_to_go.guaranteed();
            if !state_first {
                return self.recompute(memory, action, Some(return_to_go), timestep, probe);
            }
            let shape = self.record_shape();
            let newest = self.history.newest(&shape);
            shape.set_return(memory.history, newest, return_to_go);
        }
        let group = Group {
            action: action.then_some(&*memory.action),
            return_to_go,
            state: (!state_first).then_some(&*memory.state),
            timestep,
            act: true,
            predict: action && self.config().predicts(),
        };
        self.forward(&mut memory.work, &group, probe)
    }

    /// Leaves the embedding of an image in [`Memory::state`]: what is kept of it, so that a window need not encode it again.
    pub(crate) fn encode<P: Image>(
        &self,
        memory: &mut Memory<'_>,
        pixels: &[P],
        probe: &mut impl Probe,
    ) -> Result<(), NonFinite> {
        probe.enter(Phase::Embed);
        let Work {
            maps, quantized, ..
        } = &mut memory.work;
        P::encode(&self.model, pixels, maps, quantized, memory.state)?;
        squash(self.config(), memory.state)
    }

    fn is_window(&self) -> bool {
        self.config().attention == config::Attention::Window
    }

    /// A perceptron's step: the state in [`Memory::state`] joins those before it, and all of them go through the network.
    ///
    /// Not inlined, as no part of a step is.
    #[inline(never)]
    fn perceive(
        &mut self,
        memory: &mut Memory<'_>,
        probe: &mut impl Probe,
    ) -> Result<(), NonFinite> {
        let config = &self.model.config;
        probe.enter(Phase::Embed);
        let seen = &mut *memory.history;
        if self.history.len == 0 {
            // Before an episode's first state comes the mean one.
            seen.fill(0.0);
            self.history.len = 1;
        }
        shift_in(memory.state, seen);
        let Work {
            computed,
            quantized,
            output,
            ..
        } = &mut memory.work;
        probe.enter(Phase::Quantize);
        let mut input = Input::new(config.dtype, seen, seen.len(), quantized)?;
        for index in 0..config.n_layer as usize {
            probe.enter(Phase::Mlp);
            self.model.hidden(index).forward(&input, computed);
            ops::activate(config.activation, config.math, computed);
            probe.enter(Phase::Quantize);
            input = Input::new(config.dtype, computed, computed.len(), quantized)?;
        }
        decide(config, &self.model.mlp_head(), &input, output, probe)
    }

    fn record_shape(&self) -> RecordShape {
        let config = self.model.config();
        let (s, a) = (config.kept_state_len() as usize, config.act_dim as usize);
        RecordShape {
            context_len: config.context_len as usize,
            state_dim: s,
            len: plus(1, plus(s, a)),
        }
    }

    /// Window attention: the same forward pass, restarted on the last K timesteps. The newest has no return-to-go yet where its
    /// state comes first.
    #[inline(never)]
    fn recompute(
        &mut self,
        memory: &mut Memory<'_>,
        action: bool,
        return_to_go: Option<f32>,
        timestep: u32,
        probe: &mut impl Probe,
    ) -> Result<(), NonFinite> {
        let (shape, state_first) = (self.record_shape(), return_to_go.is_none());
        if action {
            let newest = self.history.newest(&shape);
            shape.set_action(memory.history, newest, memory.action);
        }
        let newest = self.history.push(&shape);
        let return_to_go = return_to_go.unwrap_or(0.0);
        shape.set(memory.history, newest, return_to_go, memory.state);
        if let Some(slot) = memory.timesteps.get_mut(newest) {
            *slot = timestep;
        }
        self.ring.clear();
        let mut previous = None;
        for i in 0..self.history.len {
            let slot = self.history.slot(&shape, i);
            let (return_to_go, state, action) = shape.get(memory.history, slot);
            let newest = plus(i, 1) == self.history.len;
            let predicts = match state_first {
                true => true,
                false => previous.is_some() && self.config().predicts(),
            };
            let group = Group {
                action: previous,
                return_to_go: (!newest || !state_first).then_some(return_to_go),
                state: Some(state),
                timestep: match self.config().is_placed_in_window() {
                    // All of the window is told what time it is now.
                    true => timestep,
                    false => memory.timesteps.get(slot).copied().guaranteed(),
                },
                act: newest && !state_first,
                predict: newest && predicts,
            };
            self.forward(&mut memory.work, &group, probe)?;
            previous = Some(action);
        }
        Ok(())
    }

    /// Runs a group of tokens through the network and appends them to the cache.
    #[inline(never)]
    fn forward(
        &mut self,
        work: &mut Work<'_>,
        group: &Group<'_>,
        probe: &mut impl Probe,
    ) -> Result<(), NonFinite> {
        let (computed, quantized) = (&mut *work.computed, &mut *work.quantized);
        // x (T, d_model): the embedded tokens; `tokens`: where each goes in the cache and what it
        // sees there.
        let mut tokens = Tokens::new();
        self.embed(group, work.x, &mut tokens, computed, quantized, probe)?;
        let (model, count) = (&self.model, tokens.len());
        // In the end something follows from the action token, the predictions, and from the state token, the action: the last. Of
        // the others the last block only needs keys and values. Where the state comes first, the one thing that follows in a group
        // follows from its last token.
        let asking = plus(usize::from(group.predict), usize::from(group.act));
        let last = (model.config.n_layer as usize).saturating_sub(1);
        for index in 0..=last {
            let going_on = if index == last { asking } else { count };
            match model.config.is_convolved() {
                false => mix(model, index, work, &tokens, going_on, probe)?,
                true => convolve(model, index, work, &tokens, going_on, probe)?,
            }
            if going_on > 0 {
                mlp(model, index, work, count, going_on, probe)?;
            }
        }

        let (computed, quantized) = (&mut *work.computed, &mut *work.quantized);
        let d = model.config.d_model as usize;
        let x = leading(work.x, count, d);
        if group.predict {
            let x = x.get(times(minus(count, asking), d)..).guaranteed();
            predict(model, x, computed, quantized, work.predicted, probe)?;
        }
        if group.act {
            let x = x.get(minus(x.len(), d)..).guaranteed();
            act(model, x, computed, quantized, work.output, probe)?;
        }
        Ok(())
    }

    /// Makes room in the ring for the tokens of a group and embeds them: x (T, d_model).
    ///
    /// Not inlined, as no part of a step is: one after the other they use the same stack.
    #[inline(never)]
    fn embed(
        &mut self,
        group: &Group<'_>,
        x: &mut [f32],
        tokens: &mut Tokens,
        computed: &mut [f32],
        quantized: &mut [u32],
        probe: &mut impl Probe,
    ) -> Result<(), NonFinite> {
        probe.enter(Phase::Embed);
        let embedding = self.model.embedding();
        let config = &self.model.config;
        let last = (config.max_ep_len as usize).saturating_sub(1);
        let d = config.d_model as usize;
        let state_first = config.is_state_first();
        // Tokens share nothing but the cache, so their order in x is free: those that something follows from come last.
        let action_is_second = !state_first && group.return_to_go.is_some();
        let mut embed = |ring: &Ring, token: Token, timestep: u32, input: &[f32]| {
            let (linear, row) = match token {
                Token::Return if state_first => (&embedding.return_to_go, tokens.len()),
                Token::Return => (&embedding.return_to_go, 0),
                Token::State => (&embedding.state, tokens.len()),
                Token::Action => (&embedding.action, usize::from(action_is_second)),
            };
            let row = computed.get_mut(part(row, d)).guaranteed();
            if token == Token::State && config.image().is_some() {
                copy(input, row);
            } else {
                let input = Input::new(config.dtype, input, linear.cols, quantized)?;
                linear.forward(&input, row);
                squash(config, row)?;
            }
            let timestep = timestep as usize;
            let table_row = if timestep < last { timestep } else { last };
            embedding.timestep.add(table_row, row);
            let visible = ring.visible(token.position(state_first));
            if config.is_placed_in_window() {
                // The ring begins with the window, so a token's slot is its place in it.
                embedding.position.add(visible.slot, row);
            }
            // A group never has more than GROUP tokens.
            tokens.push(visible).map_err(|_| NonFinite)
        };
        if let Some(action) = group.action {
            embed(&self.ring, Token::Action, self.timestep, action)?;
        }
        if state_first && let Some(state) = group.state {
            self.ring.advance();
            self.timestep = group.timestep;
            embed(&self.ring, Token::State, group.timestep, state)?;
        }
        if let Some(return_to_go) = group.return_to_go {
            if !state_first {
                self.ring.advance();
                self.timestep = group.timestep;
            }
            embed(&self.ring, Token::Return, group.timestep, &[return_to_go])?;
        }
        if !state_first && let Some(state) = group.state {
            embed(&self.ring, Token::State, group.timestep, state)?;
        }
        if let ([action, return_to_go, ..], Some(_), true) =
            (&mut **tokens, group.action, action_is_second)
        {
            core::mem::swap(action, return_to_go);
        }
        probe.enter(Phase::Norm);
        let x = leading_mut(x, tokens.len(), d);
        match &embedding.ln {
            Some(ln) => ln.forward(config.layer_norm_eps, computed, x),
            None => {
                copy(leading(computed, tokens.len(), d), x);
                Ok(())
            }
        }
    }
}

/// tanh of an embedding (d_model), where the network has it.
#[inline(never)]
fn squash(config: &config::Config, embedding: &mut [f32]) -> Result<(), NonFinite> {
    if config.has_embedding_tanh() {
        for value in embedding {
            // It would make a plausible number of an infinity.
            if !value.is_finite() {
                return Err(NonFinite);
            }
            *value = ops::tanh(config.math, *value);
        }
    }
    Ok(())
}

/// The first half of a block: the tokens in [`Work::x`] (T, d_model) go into the cache, and the last `going_on` of them learn from
/// what they see there.
///
/// Not inlined, as no part of a step is.
#[inline(never)]
fn mix(
    model: &Model<'_>,
    index: usize,
    work: &mut Work<'_>,
    tokens: &[Visible],
    going_on: usize,
    probe: &mut impl Probe,
) -> Result<(), NonFinite> {
    let (computed, quantized) = (&mut *work.computed, &mut *work.quantized);
    let (config, count) = (&model.config, tokens.len());
    let d = config.d_model as usize;
    let (dtype, eps) = (config.dtype, config.layer_norm_eps);
    let mut x = leading_mut(work.x, count, d);
    let layer = model.layer(index);
    let cache = layer_cache(config, work.cache, index);

    // Keys and values of all tokens, (T, 2·d_model) and for folded attention a bias, go into the cache.
    probe.enter(Phase::Norm);
    layer.ln_1.forward(eps, x, computed)?;
    probe.enter(Phase::Quantize);
    let mut input = Input::new(dtype, leading(computed, count, d), d, quantized)?;
    probe.enter(Phase::Qkv);
    let (queries, keys_values) = computed.split_at_mut_checked(times(GROUP, d)).guaranteed();
    let to_keys_values = match &layer.mixer {
        Mixing::Attention { qkv, .. } => qkv.outputs(d..times(3, d)),
        Mixing::Folded { key_value, .. } => *key_value,
        Mixing::Convolution(_) => return Ok(()),
    };
    to_keys_values.forward(&input, keys_values);
    probe.enter(Phase::Attention);
    let factor = attention::score_factor(config);
    for (row, token) in rows(keys_values, to_keys_values.rows).zip(tokens) {
        cache::store(config, cache, token.slot, row, factor, words(queries))?;
    }

    if going_on == 0 {
        return Ok(());
    }
    let first = count.saturating_sub(going_on);
    x = x.get_mut(times(first, d)..).guaranteed();
    if going_on < count {
        input = input.last(d, going_on);
    }

    // Queries (T, d_model) become the heads' outputs, then a part of x.
    probe.enter(Phase::Qkv);
    let queries = leading_mut(queries, going_on, d);
    let query_scales = match &layer.mixer {
        Mixing::Attention { qkv, .. } => {
            qkv.outputs(0..d).forward(&input, queries);
            None
        }
        Mixing::Folded { .. } => {
            input.copy_floats(queries);
            input.scales()
        }
        Mixing::Convolution(_) => None,
    };
    probe.enter(Phase::Attention);
    let visible = tokens.get(first..).guaranteed();
    let scores = words(keys_values);
    attention::forward(
        config,
        queries,
        query_scales,
        visible,
        cache,
        quantized,
        scores,
    )?;
    match &layer.mixer {
        Mixing::Attention { proj, .. } => {
            probe.enter(Phase::Quantize);
            let input = Input::new(dtype, queries, d, quantized)?;
            probe.enter(Phase::Projection);
            proj.forward(&input, computed);
        }
        Mixing::Folded { bias, .. } => {
            probe.enter(Phase::Projection);
            for output in rows_mut(queries, d) {
                kernels::add(output, bias);
            }
        }
        Mixing::Convolution(_) => {}
    }
    kernels::add(x, computed);
    Ok(())
}

/// [`mix`] by a convolution: a component of a token learns from the same one of the tokens before it, in floats whatever the
/// representation, since six products for each are next to nothing.
///
/// Not inlined, as no part of a step is.
#[inline(never)]
fn convolve(
    model: &Model<'_>,
    index: usize,
    work: &mut Work<'_>,
    tokens: &[Visible],
    going_on: usize,
    probe: &mut impl Probe,
) -> Result<(), NonFinite> {
    let (config, count) = (&model.config, tokens.len());
    let d = config.d_model as usize;
    let x = leading_mut(work.x, count, d);
    let computed = &mut *work.computed;
    let seen = floats(layer_cache(config, work.cache, index));
    probe.enter(Phase::Norm);
    let layer = model.layer(index);
    layer.ln_1.forward(config.layer_norm_eps, x, computed)?;
    let Mixing::Convolution(filters) = layer.mixer else {
        return Ok(());
    };
    probe.enter(Phase::Attention);
    for (row, token) in rows(computed, d).zip(tokens) {
        copy(row, seen.get_mut(part(token.slot, d)).guaranteed());
    }
    let first = count.saturating_sub(going_on);
    let asking = tokens.get(first..).guaranteed();
    let x = x.get_mut(times(first, d)..).guaranteed();
    for (x, token) in rows_mut(x, d).zip(asking) {
        let (weight, bias) = filters.at(token.slot % TOKENS_PER_STEP, d);
        let sum = leading_mut(computed, 1, d);
        copy(bias, sum);
        let [old, new] = token.runs.clone();
        let slots = new.rev().chain(old.rev());
        for (factors, slot) in rows(weight, d).zip(slots) {
            let values = seen.get(part(slot, d)).guaranteed();
            for ((sum, factor), value) in sum.iter_mut().zip(factors).zip(values) {
                *sum += factor * value;
            }
        }
        kernels::add(x, sum);
    }
    Ok(())
}

/// The second half, of the last `going_on` of `count` tokens.
///
/// Not inlined, as no part of a step is.
#[inline(never)]
fn mlp(
    model: &Model<'_>,
    index: usize,
    work: &mut Work<'_>,
    count: usize,
    going_on: usize,
    probe: &mut impl Probe,
) -> Result<(), NonFinite> {
    let (computed, quantized) = (&mut *work.computed, &mut *work.quantized);
    let (config, layer) = (&model.config, model.layer(index));
    let (d, ff) = (config.d_model as usize, config.d_ff as usize);
    let (dtype, eps) = (config.dtype, config.layer_norm_eps);
    let x = leading_mut(work.x, count, d);
    let x = x.get_mut(times(minus(count, going_on), d)..).guaranteed();
    // MLP: x (T, d_model) → hidden (T, d_ff) → a part of x.
    probe.enter(Phase::Norm);
    layer.ln_2.forward(eps, x, computed)?;
    probe.enter(Phase::Quantize);
    let input = Input::new(dtype, leading(computed, going_on, d), d, quantized)?;
    probe.enter(Phase::Mlp);
    let hidden = leading_mut(computed, going_on, ff);
    layer.mlp_fc.forward(&input, hidden);
    ops::activate(config.activation, config.math, hidden);
    probe.enter(Phase::Quantize);
    let input = Input::new(dtype, hidden, ff, quantized)?;
    probe.enter(Phase::Mlp);
    layer.mlp_proj.forward(&input, computed);
    kernels::add(x, computed);
    Ok(())
}

/// The unscaled action (act_dim) that follows from the state token's x (1, d_model), or the return's where that comes second.
///
/// Not inlined, as no part of a step is.
#[inline(never)]
fn act(
    model: &Model<'_>,
    x: &[f32],
    computed: &mut [f32],
    quantized: &mut [u32],
    action: &mut [f32],
    probe: &mut impl Probe,
) -> Result<(), NonFinite> {
    let (config, output) = (&model.config, model.output());
    let (d, dtype) = (config.d_model as usize, config.dtype);
    probe.enter(Phase::Norm);
    output.ln_f.forward(config.layer_norm_eps, x, computed)?;
    probe.enter(Phase::Quantize);
    let mut input = Input::new(dtype, leading(computed, 1, d), d, quantized)?;
    if let Some(glu) = &output.glu {
        // (1, 2·d_model): values, then their gates. There is room where keys and values were.
        probe.enter(Phase::Head);
        glu.forward(&input, computed);
        let (values, gates) = computed.split_at_mut_checked(d).guaranteed();
        ops::gate(config.math, values, gates.get(..d).guaranteed())?;
        probe.enter(Phase::Quantize);
        input = Input::new(dtype, values, d, quantized)?;
    }
    decide(config, &output.head, &input, action, probe)
}

/// The unscaled action (act_dim), or logits, that `head` makes of its input.
#[inline(always)]
fn decide(
    config: &config::Config,
    head: &Linear<'_>,
    input: &Input<'_>,
    action: &mut [f32],
    probe: &mut impl Probe,
) -> Result<(), NonFinite> {
    probe.enter(Phase::Head);
    head.forward(input, action);
    for action in action {
        // Before tanh, which would make a plausible action of an infinity.
        if !action.is_finite() {
            return Err(NonFinite);
        }
        if config.head == Head::Tanh {
            *action = ops::tanh(config.math, *action);
        }
    }
    Ok(())
}

/// What follows from the action token's x (1, d_model): the next state (state_dim) and return-to-go, as far as the network
/// predicts them. Or from a state that comes first: its return-to-go.
///
/// Not inlined, as no part of a step is.
#[inline(never)]
fn predict(
    model: &Model<'_>,
    x: &[f32],
    computed: &mut [f32],
    quantized: &mut [u32],
    predicted: &mut [f32],
    probe: &mut impl Probe,
) -> Result<(), NonFinite> {
    let (config, heads) = (&model.config, model.predictions());
    let (d, dtype) = (config.d_model as usize, config.dtype);
    probe.enter(Phase::Norm);
    (model.output().ln_f).forward(config.layer_norm_eps, x, computed)?;
    probe.enter(Phase::Quantize);
    let input = Input::new(dtype, leading(computed, 1, d), d, quantized)?;
    probe.enter(Phase::Head);
    let state_len = config.predicted_state_len() as usize;
    let (state, return_to_go) = predicted.split_at_mut_checked(state_len).guaranteed();
    if let Some(head) = &heads.state {
        head.forward(&input, state);
    }
    if let Some(head) = &heads.return_to_go {
        head.forward(&input, return_to_go);
    }
    match predicted.iter().all(|value| value.is_finite()) {
        true => Ok(()),
        false => Err(NonFinite),
    }
}

/// Drops the oldest values of `seen`, as many as `newest` has, and appends these.
fn shift_in(newest: &[f32], seen: &mut [f32]) {
    let values = Cell::from_mut(seen).as_slice_of_cells();
    let later = values.get(newest.len()..).guaranteed();
    let from = later.iter().map(Cell::get).chain(newest.iter().copied());
    for (value, from) in values.iter().zip(from) {
        value.set(from);
    }
}

/// The tokens of a group: return-to-go, action, state; or action, state, return-to-go.
type Tokens = heapless::Vec<Visible, GROUP>;

/// What belongs to the first `tokens` tokens of `width` values each.
fn leading(values: &[f32], tokens: usize, width: usize) -> &[f32] {
    values.get(..times(tokens, width)).guaranteed()
}

fn leading_mut(values: &mut [f32], tokens: usize, width: usize) -> &mut [f32] {
    values.get_mut(..times(tokens, width)).guaranteed()
}

/// A token of a timestep.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Return,
    State,
    Action,
}

impl Token {
    /// Its place within the timestep.
    const fn position(self, state_first: bool) -> usize {
        match self {
            Self::Return => state_first as usize,
            Self::State => !state_first as usize,
            Self::Action => 2,
        }
    }
}

/// Tokens to run together: any of them may be absent, but what comes second never comes before what comes first.
struct Group<'i> {
    /// Action of the newest timestep (act_dim), scaled.
    action: Option<&'i [f32]>,
    /// Return-to-go that begins a timestep, scaled.
    return_to_go: Option<f32>,
    /// State of that timestep: normalized (state_dim), or the embedding of an image (d_model).
    state: Option<&'i [f32]>,
    /// That timestep.
    timestep: u32,
    /// Whether the action is wanted that follows from the newest of state and return-to-go.
    act: bool,
    /// Whether predictions are wanted: of the action, which there is then, or of a state that comes first.
    predict: bool,
}
