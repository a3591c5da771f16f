// Reads the clips, and draws skeletons on canvases that share one camera and one time.

class Clips {
  // `facts` is what Python's `player.packed` returns, `bytes` its text, inflated.
  constructor(facts, bytes) {
    Object.assign(this, facts);
    const count = facts.frames * facts.columns;
    this.values = new Int16Array(count);
    for (let i = 0; i < count; i++) {
      const change = bytes[i] | (bytes[count + i] << 8);
      this.values[i] = change + (i < facts.columns ? 0 : this.values[i - facts.columns]);
    }
  }

  // Joints [x, y, z] of a body at a time in [0, frames - 1]; null where one is missing.
  pose(column, body, time) {
    const first = Math.floor(time);
    const second = Math.min(first + 1, this.frames - 1);
    const start = column + 3 * body * this.joints;
    return Array.from({ length: this.joints }, (_, joint) => {
      const place = [0, 1, 2].map((axis) => {
        const at = start + 3 * joint + axis;
        const [a, b] = [first, second].map((frame) => this.values[frame * this.columns + at]);
        return a === -32768 || b === -32768 ? NaN : a + (time - first) * (b - a);
      });
      return place.some(Number.isNaN) ? null : place;
    });
  }

  // Where the camera looks: it follows the real clip's first body over the floor.
  centre(row, time) {
    const place = this.pose(this.clips[row].real, 0, time)[this.origin];
    return place ? [place[0], place[2]] : [0, 0];
  }

  // Height and half the width that a real clip needs, whatever the camera does.
  size(row) {
    const { real, bodies } = this.clips[row];
    let [top, side] = [1, 0.3 * this.height];
    for (let frame = 0; frame < this.frames; frame++) {
      const [x, z] = this.centre(row, frame);
      for (let body = 0; body < bodies; body++) {
        for (const joint of this.pose(real, body, frame)) {
          if (!joint) continue;
          top = Math.max(top, joint[1]);
          side = Math.max(side, Math.hypot(joint[0] - x, joint[2] - z));
        }
      }
    }
    return { top, side };
  }
}

class Camera {
  constructor() {
    this.reset();
  }

  reset() {
    [this.yaw, this.pitch] = [-0.45, 0.22];
  }

  turn(yaw, pitch) {
    this.yaw += yaw;
    this.pitch = Math.min(1.45, Math.max(-0.1, this.pitch + pitch));
  }
}

// Draws one clip on a canvas.
//   canvas, clips, camera: the three of them
//   row: the real clip that decides size and centre; column, bodies: the clip to draw
//   time: in [0, frames - 1]
function drawClip(canvas, clips, camera, row, column, time, frame = clips.size(row)) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.lineCap = "round";

  const [yaw, pitch] = clips.flat ? [0, 0] : [camera.yaw, camera.pitch];
  const [sy, cy, sp, cp] = [Math.sin(yaw), Math.cos(yaw), Math.sin(pitch), Math.cos(pitch)];
  const scale = Math.min((0.76 * height) / frame.top, (0.6 * width) / frame.side);
  const [cx, cz] = clips.centre(row, time);
  // [right, down, away] in pixels of the page.
  const project = ([x, y, z]) => {
    const [dx, dz] = [x - cx, z - cz];
    const away = cy * dz - sy * dx;
    return [
      width / 2 + scale * (cy * dx + sy * dz),
      0.87 * height - scale * (cp * y + sp * away),
      cp * away - sp * y,
    ];
  };

  if (!clips.flat) drawFloor(pen, clips, project, [cx, cz], frame.side);
  const poses = Array.from({ length: clips.clips[row].bodies }, (_, body) => clips.pose(column, body, time));
  if (!clips.flat) drawShadows(pen, clips, poses, project);
  drawBones(pen, clips, poses, project, Math.max(2.2, height / 75));
}

// Lines of a grid that stands still in the room, so that a walk shows.
function drawFloor(pen, clips, project, [cx, cz], side) {
  const [step, radius] = [clips.height / 4, Math.max(side, clips.height / 2) * 1.25];
  pen.strokeStyle = colour("line");
  pen.lineWidth = 1;
  pen.beginPath();
  for (const [across, middle, along] of [[0, cx, cz], [1, cz, cx]]) {
    for (let k = Math.ceil((middle - radius) / step); k * step <= middle + radius; k++) {
      const half = Math.sqrt(Math.max(0, radius ** 2 - (k * step - middle) ** 2));
      for (const [end, draw] of [[-half, "moveTo"], [half, "lineTo"]]) {
        const place = across ? [along + end, 0, k * step] : [k * step, 0, along + end];
        pen[draw](...project(place).slice(0, 2));
      }
    }
  }
  pen.stroke();
}

function drawShadows(pen, clips, poses, project) {
  pen.strokeStyle = colour("ink");
  pen.globalAlpha = 0.09;
  pen.lineWidth = 4;
  for (const pose of poses) {
    for (const [joint, parent] of clips.bones) {
      if (!pose[joint] || !pose[parent]) continue;
      const [a, b] = [joint, parent].map((j) => project([pose[j][0], 0, pose[j][2]]));
      line(pen, a, b);
    }
  }
  pen.globalAlpha = 1;
}

// The farthest bone first, each with an edge of the ground's colour, so that near ones stand out.
function drawBones(pen, clips, poses, project, thickness) {
  const parts = poses.flatMap((pose, body) => {
    const places = pose.map((joint) => joint && project(joint));
    const tone = (side) => colour(body ? `${side}-2` : side);
    const bones = clips.bones
      .filter(([joint, parent]) => places[joint] && places[parent])
      .map(([joint, parent, side]) => [places[joint], places[parent], tone(side), thickness]);
    const dots = (clips.bones.length ? clips.heads : [...places.keys()])
      .filter((joint) => places[joint])
      .map((joint) => [places[joint], places[joint], tone("trunk"), thickness * 3]);
    return [...bones, ...dots];
  });
  parts.sort((one, other) => other[0][2] + other[1][2] - one[0][2] - one[1][2]);
  const ground = colour("page");
  for (const [a, b, tone, wide] of parts) {
    pen.strokeStyle = ground;
    pen.lineWidth = wide + 2;
    // Shorter than the bone, so that it does not cut its neighbours.
    const cut = Math.min(0.5, wide / (Math.hypot(b[0] - a[0], b[1] - a[1]) || 1));
    const inner = (one, other) => [0, 1].map((axis) => one[axis] + cut * (other[axis] - one[axis]));
    if (a !== b) line(pen, inner(a, b), inner(b, a));
    pen.strokeStyle = tone;
    pen.lineWidth = wide;
    line(pen, a, b);
  }
}

function line(pen, a, b) {
  pen.beginPath();
  pen.moveTo(a[0], a[1]);
  pen.lineTo(b[0], b[1] + (a === b ? 0.01 : 0));
  pen.stroke();
}
