/// Configuration of the policy in p.dtb, written beside it by dt-train 0.0.0.
///
/// - environment: pendulum
/// - run: RUN, 7 updates, seed 0
/// - data: data.hdf5
pub const CONFIG: dt_core::config::Config = dt_core::config::Config {
    state_dim: 3,
    act_dim: 1,
    d_model: 16,
    n_layer: 2,
    n_head: 2,
    d_ff: 64,
    context_len: 4,
    max_ep_len: 40,
    dtype: dt_core::config::Dtype::F32,
    attention: dt_core::config::Attention::Window,
    mixer: dt_core::config::Mixer::Attention,
    activation: dt_core::config::Activation::Relu,
    head: dt_core::config::Head::Linear,
    math: dt_core::config::Math::Polynomial,
    layer_norm_eps: 1e-5,
    glu: false,
    actions: dt_core::config::Actions::Continuous,
    predictions: dt_core::config::Predictions {
        state: false,
        return_to_go: false,
    },
    network: dt_core::config::Network::Transformer,
    encoder: dt_core::config::Encoder::Linear,
    embeddings: dt_core::config::Embeddings {
        tanh: false,
        norm: true,
        positions: dt_core::config::Positions::Timestep,
    },
    order: dt_core::config::Order::ReturnFirst,
};

/// 32-bit words of memory that the policy needs, all of it.
pub const ARENA_WORDS: usize = CONFIG.arena_words();
