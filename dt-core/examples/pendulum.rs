/// Configuration of the policy in pendulum.dtb, written beside it by dt-train 0.1.0.
///
/// - environment: pendulum
/// - run: small, 1500 updates, seed 0
/// - data: medium.hdf5, SHA-256 602197ec3c6372b7721235d49a8b04421f59564962b367f8e754a1bfe0ec8fce
/// - 28197 parameters, 35280 bytes of flash
pub const CONFIG: dt_core::config::Config = dt_core::config::Config {
    state_dim: 3,
    act_dim: 1,
    d_model: 32,
    n_layer: 2,
    n_head: 1,
    d_ff: 128,
    context_len: 8,
    max_ep_len: 200,
    dtype: dt_core::config::Dtype::Int8,
    attention: dt_core::config::Attention::Streaming,
    mixer: dt_core::config::Mixer::Folded,
    activation: dt_core::config::Activation::Relu,
    head: dt_core::config::Head::Tanh,
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
