import { Stream } from './api.js';
import * as board from './board.js';
import * as brand from './brand.js';
import { $ } from './dom.js';
import * as me from './me.js';
import * as slip from './slip.js';

const WORDS = { on: 'live', wait: 'connecting', off: 'reconnecting' };

const stream = new Stream((state) => {
  $('pulse').dataset.state = state;
  $('pulse-text').textContent = WORDS[state];
});
brand.start();
slip.start();
board.start(stream);
me.start(stream);
