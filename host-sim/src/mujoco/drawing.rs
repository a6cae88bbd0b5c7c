//! MuJoCo's own pictures, drawn off-screen through EGL, by Mesa's software renderer where there is no GPU.

use std::sync::Arc;

use mujoco_rs::prelude::{MjtMouse, MjvCamera};
use mujoco_rs::renderer::{MjRenderer, RendererError};

use super::{MujocoEnv, Task};
use crate::env::Env;
use crate::stage::{self, DrawError, Gesture};

/// The plant and what draws it.
pub(crate) struct Drawing {
    env: MujocoEnv,
    renderer: MjRenderer,
}

impl Drawing {
    pub(crate) fn new(task: &Arc<Task>, (width, height): (u32, u32)) -> Result<Self, DrawError> {
        // Without a camera of its own, a model is seen as a whole.
        let camera = if task.model.ffi().ncam > 0 {
            MjvCamera::new_fixed(0)
        } else {
            MjvCamera::new_free(&task.model)
        };
        // What can be drawn off-screen is limited by the model, 640 × 480 unless it says otherwise.
        let mut model = (*task.model).clone();
        let limits = &mut model.vis_mut().global;
        limits.offwidth = limits.offwidth.max(width as i32);
        limits.offheight = limits.offheight.max(height as i32);
        let builder = MjRenderer::builder()
            .width(width)
            .height(height)
            .camera(camera);
        let renderer = builder.build(&model).map_err(|error| failed(&error))?;
        Ok(Self {
            env: MujocoEnv::new(task.clone()),
            renderer,
        })
    }
}

impl stage::Drawing for Drawing {
    fn env(&mut self) -> &mut dyn Env {
        &mut self.env
    }

    fn draw(&mut self, _action: &[f32]) -> Result<Vec<u8>, DrawError> {
        self.renderer
            .sync_data(&mut self.env.data)
            .map_err(|error| failed(&error))?;
        self.renderer.render().map_err(|error| failed(&error))?;
        Ok(self
            .renderer
            .rgb_flat()
            .expect("enabled by default")
            .to_vec())
    }

    fn move_camera(&mut self, gesture: Gesture, x: f64, y: f64) {
        let model = self.env.task.model.clone();
        let camera = self.renderer.camera_mut();
        if camera.fixedcamid >= 0 && model.ffi().nbody > 1 {
            *camera = loosen(camera, &self.env);
        }
        let action = match gesture {
            Gesture::Turn => MjtMouse::mjMOUSE_ROTATE_V,
            Gesture::Shift => {
                // Following the robot would undo it.
                camera.free();
                MjtMouse::mjMOUSE_MOVE_V
            }
            Gesture::Zoom => MjtMouse::mjMOUSE_ZOOM,
        };
        camera.move_(action, &model, x, y);
    }
}

/// A camera of the model cannot be moved. One takes its place that follows the robot's first body, in the same direction
/// and from as far.
fn loosen(fixed: &MjvCamera, env: &MujocoEnv) -> MjvCamera {
    let (position, forward, ..) = fixed.frame(&env.data);
    let body = env.data.xpos()[1];
    let mut camera = MjvCamera::new_tracking(1);
    camera.lookat = body;
    camera.distance = [0, 1, 2]
        .map(|axis| (position[axis] - body[axis]).powi(2))
        .iter()
        .sum::<f64>()
        .sqrt();
    camera.azimuth = forward[1].atan2(forward[0]).to_degrees();
    camera.elevation = forward[2].asin().to_degrees();
    camera
}

fn failed(error: &RendererError) -> DrawError {
    DrawError::OpenGl(error.to_string())
}
